// Live: listens to the scheduler's events and lets the parts of the page that they concern fetch themselves anew.

const words = JSON.parse(document.body.dataset.words);
const address = document.body.dataset.events;
const sign = document.getElementById("live");
const last = new Map();
const planned = new Map();
const shown = new Map();

function show(state) {
  sign.dataset.state = state;
  sign.querySelector(".words").textContent = words[state];
}

function concerns(element, kind, about) {
  if (!element.dataset.live.split(" ").includes(kind)) return false;
  const { job, run } = element.dataset;
  return (!job || !about.job_id || about.job_id === job) && (!run || !about.run_id || about.run_id === run);
}

// No part is fetched more often than every so many seconds, however much happens, nor before `least` milliseconds.
function refresh(element, least = 150) {
  const key = element.id;
  if (planned.has(key)) return;
  const pause = 1000 * Number(element.dataset.every || 2);
  const wait = Math.max(least, (last.get(key) || 0) + pause - Date.now());
  planned.set(key, setTimeout(() => {
    planned.delete(key);
    const current = document.getElementById(key);
    if (!current || document.hidden) return;
    if (isAwaited(current)) refresh(current);
    else if (isReadFurtherDown(current)) renew();
    else if (isFilledIn(current)) stale.add(key);
    else htmx.trigger(current, "refresh");
  }, wait));
}

// An answer that is on its way was perhaps read before what has happened since, and would undo what is fetched meanwhile.
// What waits at an element for its request htmx forgets when the answer replaces the element.
function isAwaited(place) {
  if (place.closest("#list") && document.querySelector(".htmx-request:is(#list, .filters)")) return true;
  return place.matches(".htmx-request") || place.querySelector("form.htmx-request") !== null;
}

// What somebody types or chooses in must not be exchanged meanwhile.
function isFilledIn(part) {
  return part.contains(document.activeElement) && document.activeElement.matches("input:not([type=checkbox]), select, textarea");
}

// What was to be fetched or shown meanwhile.
const stale = new Set();

document.body.addEventListener("focusout", () => {
  for (const key of stale) {
    const element = document.getElementById(key);
    if (element) refresh(element);
  }
  stale.clear();
});

// No event tells that time has passed, or that the store is away.
setInterval(() => {
  if (document.hidden) return;
  for (const element of document.querySelectorAll("[data-live]")) if (!isReadFurtherDown(element)) refresh(element);
  for (const row of document.querySelectorAll("#rows tr[data-job]")) {
    const due = row.querySelector("[data-until]");
    if (due && Date.parse(due.dataset.until) < Date.now()) unseen.observe(row);
  }
}, 15000);

// Rows that may have changed are fetched once they are in sight.
const unseen = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    unseen.unobserve(target);
    refreshRow(target.dataset.job);
  }
});

document.body.addEventListener("htmx:beforeSwap", (event) => {
  const { target: part, xhr, requestConfig } = event.detail;
  // By itself, and not by a form.
  const fetched = requestConfig.elt === part;
  const live = fetched && part.dataset.live;
  if (live) last.set(part.id, Date.now());
  if (xhr.status >= 400 && !xhr.getResponseHeader("HX-Reswap")) {
    // Each refusal of ours says what to do with it: this is that of a proxy, or no answer that was meant.
    event.detail.shouldSwap = false;
    if (!fetched || !again(part, 5000)) tell(`${words.failed} (${xhr.status})`);
  } else if (fetched && xhr.status === 503) {
    again(part, 5000);
  } else if (fetched && (part.querySelector(":active, form.htmx-request") || document.querySelector(".filters.htmx-request")) && again(part)) {
    // What is being pressed must still be there when it is let go, or the click is lost. So must a form, and what its
    // answer replaces, when that comes.
    event.detail.shouldSwap = false;
  } else if (fetched && isReadFurtherDown(part)) {
    event.detail.shouldSwap = false;
    renew();
  } else if (live && isFilledIn(part)) {
    event.detail.shouldSwap = false;
    stale.add(part.id);
  } else if (live && xhr.status < 400) {
    // What stays as it was is not announced again, and keeps what is open or chosen in it.
    if (shown.get(part.id) === xhr.responseText) event.detail.shouldSwap = false;
    else shown.set(part.id, xhr.responseText);
  }
  if (!event.detail.shouldSwap || xhr.status >= 400) return;
  focused = focusIn(part) ?? focused;
  const details = part.id && part.querySelector("details[open]");
  opened = details ? { id: part.id, top: details.querySelector(".scroll")?.scrollTop ?? 0 } : null;
  const log = part.querySelector("#log");
  if (log) reading = isAtEnd(log) ? null : log.scrollTop;
});

document.body.addEventListener("htmx:beforeSend", ({ detail: { elt, target, xhr } }) => {
  // At its request, for what has sent it may be gone by then.
  xhr.addEventListener("error", () => {
    if (elt !== target || !again(target, 5000)) tell(words.failed);
  });
});

// What was opened stays open, where it was scrolled to.
let opened = null;

document.body.addEventListener("htmx:afterSwap", () => {
  const details = opened && document.getElementById(opened.id)?.querySelector("details");
  if (!details) return;
  details.open = true;
  details.querySelector(".scroll")?.scrollTo(0, opened.top);
  opened = null;
});

// The focus goes to what comes in the place of what had it. (What has an id, htmx sees to.)
let focused = null;

function focusable(part) {
  return part ? [...part.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex]")] : [];
}

function target(element) {
  return [element.tagName, element.getAttribute("href"), element.form?.getAttribute("action"), element.name].join(" ");
}

function focusIn(part) {
  const place = focusable(part).indexOf(document.activeElement);
  return place < 0 ? null : { id: part.id, job: part.dataset.job, place, target: target(document.activeElement) };
}

document.body.addEventListener("htmx:afterSettle", () => {
  const lost = document.activeElement === document.body && focused;
  focused = null;
  if (!lost) return;
  const { id, job, place, target: sought } = lost;
  const found = focusable(id ? document.getElementById(id) : rowOf(job));
  const same = found.filter((one) => target(one) === sought);
  (same.includes(found[place]) ? found[place] : same[0] ?? found[place])?.focus({ preventScroll: true });
});

// Fetches what follows the events once more; tells whether it does.
function again(part, least) {
  if (part.dataset.live || part.id === "list") refresh(part, least);
  else if (part.dataset.job) refreshRow(part.dataset.job, least);
  else return false;
  return true;
}

function tell(text) {
  const told = document.createElement("p");
  told.className = "flash bad";
  told.textContent = `✕ ${text}`;
  document.getElementById("flash").replaceChildren(told);
}

// It must not move under the eyes of whoever reads it.
function isReadFurtherDown(element) {
  // A browser may scroll to a place but for a part of a pixel.
  return element.id === "list" && element.getBoundingClientRect().top < -1;
}

function update(element) {
  if (isReadFurtherDown(element)) offer();
  else refresh(element);
}

// The list as it is now: job by job, where somebody reads or chooses in it.
function renew() {
  const list = document.getElementById("list");
  if (!isReadFurtherDown(list) && !list.querySelector("#rows input:checked")) {
    refresh(list);
    return;
  }
  offer();
  for (const row of list.querySelectorAll("#rows tr[data-job]")) unseen.observe(row);
}

function hear(kind, text) {
  let about = {};
  try {
    about = JSON.parse(text) || {};
  } catch {
    about = {};
  }
  for (const element of document.querySelectorAll("[data-live]")) {
    if (!concerns(element, kind, about)) continue;
    update(element);
  }
  if (kind === "run" || kind === "job") {
    if (rowOf(about.job_id)) refreshRow(about.job_id);
    else if (about.action === "added" && document.getElementById("rows")) offer();
  }
}

// A list that has something new says so, and shows it when it is asked to.
const news = document.getElementById("news");

function offer() {
  if (news) news.querySelector("button").hidden = false;
}

if (news) {
  news.querySelector("button").addEventListener("click", (event) => {
    const list = document.getElementById("list");
    event.target.hidden = true;
    list.scrollIntoView();
    last.delete(list.id);
    refresh(list, 0);
  });
}

function rowOf(job) {
  return [...document.querySelectorAll("#rows tr[data-job]")].find((one) => one.dataset.job === job);
}

// A list keeps its place and its choices: only the row of the job in question is fetched, the one that is there by then.
function refreshRow(job, least = 1000) {
  const key = `row ${job}`;
  if (planned.has(key)) return;
  planned.set(key, setTimeout(() => {
    planned.delete(key);
    const row = rowOf(job);
    if (!row || document.hidden) return;
    if (isAwaited(row)) return refreshRow(job);
    // From the row itself, for of what one element asks for meanwhile htmx keeps the last alone. A failure is seen to above.
    htmx.ajax("GET", row.dataset.address, { source: row, target: row, swap: "outerHTML" }).catch(() => {});
  }, least));
}

// What the run has logged so far: the page that comes from the server has none of it while the run is under way.
let written = "";
// How far down somebody reads in it who does not follow its end.
let reading = null;

function showLog() {
  const output = document.querySelector("[data-log]");
  if (!output || output.textContent === written) return;
  const atEnd = isAtEnd(output);
  if (output.textContent && written.startsWith(output.textContent)) output.append(written.slice(output.textContent.length));
  else output.textContent = written;
  if (atEnd) output.scrollTop = output.scrollHeight;
}

function isAtEnd(output) {
  return output.scrollTop + output.clientHeight >= output.scrollHeight - 4;
}

// At once, and not only when the new part has settled: the lines must not vanish for a moment.
document.body.addEventListener("htmx:afterSwap", () => {
  showLog();
  if (reading !== null) document.getElementById("log")?.scrollTo(0, reading);
  reading = null;
});

let source;
let doubt;

// Each stream ends by itself before long, and the browser comes again at once: only what takes longer is told.
function falter() {
  if (source.readyState !== EventSource.CLOSED) {
    doubt ??= setTimeout(() => show("waiting"), 3000);
    return;
  }
  // The browser has given up, as where a proxy answers in the place of a server that restarts.
  settle("off");
  setTimeout(listen, 5000);
}

function settle(state) {
  clearTimeout(doubt);
  doubt = undefined;
  show(state);
}

function listen() {
  if (document.hidden || source && source.readyState !== EventSource.CLOSED) return;
  const log = document.querySelector("[data-log]");
  source = new EventSource(log ? `${address}?run_id=${encodeURIComponent(log.dataset.log)}` : address);
  source.addEventListener("open", () => settle("live"));
  source.addEventListener("error", falter);
  for (const kind of ["run", "job", "scheduler"]) source.addEventListener(kind, (event) => hear(kind, event.data));
  source.addEventListener("reset", () => {
    for (const element of document.querySelectorAll("[data-live]")) update(element);
    // Each stream begins with this: since the page was read, or the last stream ended, something may have been missed.
    if (document.getElementById("rows")) renew();
  });
  source.addEventListener("log", (event) => {
    const said = JSON.parse(event.data);
    const text = said.text.endsWith("\n") ? said.text : `${said.text}\n`;
    written = said.line ? written + text : text;
    showLog();
  });
}

if (address) {
  show("waiting");
  listen();
  // A browser has six connections to a host for all of its tabs: those in the background leave them to the others.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) source?.close();
    else listen();
  });
  window.addEventListener("pagehide", () => source?.close());
  window.addEventListener("pageshow", listen);
}
