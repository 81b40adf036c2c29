// The address after the # is the whole state of the page, so that every view can be linked to.

export function here() {
  const [view, query] = decodeHash(location.hash.slice(1));
  return { view: view || "trajectories", params: new URLSearchParams(query) };
}

function decodeHash(hash) {
  const cut = hash.indexOf("?");
  return cut < 0 ? [hash, ""] : [hash.slice(0, cut), hash.slice(cut + 1)];
}

export function link(view, params) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) if (value !== "" && value !== null && value !== undefined) query.set(name, value);
  return `#${view}?${query}`;
}

export function go(view, params, { replace = false } = {}) {
  const address = link(view, params);
  if (replace) history.replaceState(null, "", address);
  else history.pushState(null, "", address);
  dispatchEvent(new Event("moved"));
}
