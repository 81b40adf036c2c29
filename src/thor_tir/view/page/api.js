// Where the page gets its data: the server that sent it, or its own file where it was written by --export.
import { answers } from "./embedded.js";

export class Refused extends Error {}

const own = document.getElementById("thor-data");
export const isAlone = Boolean(own);
const answer = own ? answers(JSON.parse(own.textContent)) : null;

export async function get(path, params = {}) {
  if (isAlone) {
    const found = answer(path, params);
    if (found === undefined) throw new Refused("This file holds a part of the run; `thor view` shows all of it.");
    return found;
  }
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) if (value !== "" && value !== undefined && value !== null) query.set(name, value);
  let reply;
  try {
    reply = await fetch(`api/${path}?${query}`);
  } catch {
    throw new Refused("The server does not answer: `thor view` has ended, or the connection is gone.");
  }
  const found = await reply.json().catch(() => ({ error: `The server answered ${reply.status}.` }));
  if (!reply.ok) throw new Refused(found.error || `The server answered ${reply.status}.`);
  return found;
}
