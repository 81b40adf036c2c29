// Where the page gets its data: the server that sent it.

export class Refused extends Error {}

export async function get(path, params = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) if (value !== "" && value !== undefined && value !== null) query.set(name, value);
  let answer;
  try {
    answer = await fetch(`api/${path}?${query}`);
  } catch {
    throw new Refused("The server does not answer: `thor view` has ended, or the connection is gone.");
  }
  const found = await answer.json().catch(() => ({ error: `The server answered ${answer.status}.` }));
  if (!answer.ok) throw new Refused(found.error || `The server answered ${answer.status}.`);
  return found;
}
