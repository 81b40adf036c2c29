"""Programs on other machines: the client, the server and the choice among several."""
