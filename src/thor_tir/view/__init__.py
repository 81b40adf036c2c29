"""The web application that shows run folders while they grow, and after."""
