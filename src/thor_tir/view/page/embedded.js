// The server's answers from the data that stands in the file itself.

const PAGE_ROWS = 50;

const ORDERS = {
  longest: (row) => -row.tokens, shortest: (row) => row.tokens, "most calls": (row) => -row.calls,
  "most failures": (row) => -row.failures.length, slowest: (row) => -(row.seconds || 0),
};

export function answers({ runs, curves, data }) {
  const texts = new Map();

  return (path, params) => {
    if (path === "state") return { runs };
    if (path === "curves") return curves;
    const [number, what] = path.split("/");
    const run = data[number];
    if (!run) return undefined;
    if (what === "outcomes") return run.outcomes;
    if (what === "facets") return facets(run, params.file);
    if (what === "trajectories") return page(run, params);
    if (what === "trajectory") return run.details[`${params.file} ${params.key}`];
    return undefined;
  };

  function page(run, asked) {
    const rows = run.rows.filter((row) => !asked.file || row.file === asked.file);
    const last = Math.max(0, ...rows.map((row) => row.round || 0)) || null;
    const round = asked.round === "last" ? last : /^\d+$/.test(asked.round || "") ? Number(asked.round) : null;
    const wanted = (asked.text || "").toLowerCase();
    const call = (row) => (row.failures.length ? "failed" : row.calls ? "ran" : "none");
    const found = rows.filter((row) =>
      asked.level !== "repairs" && (!asked.outcome || asked.outcome === row.outcome) && (!asked.call || asked.call === call(row)) &&
      (!asked.failure || row.failures.includes(asked.failure)) && (!asked.family || asked.family === row.family) && (!asked.problem || asked.problem === row.problem) &&
      (!asked.finish || asked.finish === row.finish) && (round === null || row.round === round) && row.tokens >= Number(asked.min_tokens || 0) &&
      (!Number(asked.max_tokens) || row.tokens <= Number(asked.max_tokens)) && (!asked.repaired || (asked.repaired === "yes") === Boolean(row.discarded || row.repairs)) &&
      (!wanted || textOf(run, row).includes(wanted)));
    const order = ORDERS[asked.sort];
    if (order) found.sort((a, b) => order(a) - order(b));
    const number = Number(asked.page || 0);
    return { rows: found.slice(number * PAGE_ROWS, (number + 1) * PAGE_ROWS), total: found.length, page: number, page_rows: PAGE_ROWS, round, unsearched: 0, version: 0, unread: 0 };
  }

  function textOf(run, row) {
    if (!texts.has(row)) {
      const whole = run.details[`${row.file} ${row.key}`];
      const parts = [row.key, row.problem, whole.question || "", whole.answer || ""];
      const add = (steps) => steps.forEach((step) => {
        add(step.discarded);
        parts.push(step.replaced?.text || "", step.thought, step.code || "", step.output?.text || "");
      });
      add(whole.steps);
      texts.set(row, parts.join("\n").toLowerCase());
    }
    return texts.get(row);
  }
}

function facets(run, file) {
  const rows = run.rows.filter((row) => !file || row.file === file);
  const count = (values) => values.reduce((found, value) => ({ ...found, [value]: (found[value] || 0) + 1 }), {});
  return {
    files: count(run.rows.map((row) => row.file)), copies: [], families: count(rows.map((row) => row.family)), outcomes: count(rows.map((row) => row.outcome)),
    failures: count(rows.flatMap((row) => row.failures)), finishes: count(rows.map((row) => row.finish)),
    rounds: [...new Set(rows.map((row) => row.round).filter(Boolean))].sort((a, b) => a - b), repairs: 0, longest: Math.max(0, ...rows.map((row) => row.tokens)), orders: run.orders,
  };
}
