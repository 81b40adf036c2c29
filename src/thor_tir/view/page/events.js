// Answers of `thor serve` as they are written: server-sent events of OpenAI's API, read from a stream.

export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export async function ask(path, { body, key, signal } = {}) {
  const headers = { ...(body ? { "Content-Type": "application/json" } : {}), ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  const reply = await fetch(path, { method: body ? "POST" : "GET", headers, signal, body: body ? JSON.stringify(body) : undefined });
  if (reply.ok) return reply;
  const found = await reply.json().catch(() => ({}));
  throw new Refused(found.error?.message || `The server answered ${reply.status}.`, reply.status);
}

// Calls `hear` with the first choice of each event until the answer is whole.
export async function streamed(reply, hear) {
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Refused("The answer ended before it was whole.");
    held += value;
    const events = held.split("\n\n");
    held = events.pop();
    for (const event of events) {
      const data = event.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n");
      if (data === "[DONE]") return;
      if (!data) continue;
      const found = JSON.parse(data);
      if (found.error) throw new Refused(found.error.message);
      if (found.choices?.length) hear(found.choices[0]);
    }
  }
}
