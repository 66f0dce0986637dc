// Live: listens to the scheduler's events and lets the parts of the page that they concern fetch themselves anew.

const words = JSON.parse(document.body.dataset.words);
const address = document.body.dataset.events;
const sign = document.getElementById("live");
const last = new WeakMap();
const planned = new Map();

function show(state) {
  sign.dataset.state = state;
  sign.querySelector(".words").textContent = words[state];
}

function concerns(element, kind, about) {
  if (!element.dataset.live.split(" ").includes(kind)) return false;
  const { job, run } = element.dataset;
  return (!job || !about.job_id || about.job_id === job) && (!run || !about.run_id || about.run_id === run);
}

// No part is fetched more often than every so many seconds, however much happens.
function refresh(element) {
  const key = element.id;
  if (planned.has(key)) return;
  const pause = 1000 * Number(element.dataset.every || 2);
  const wait = Math.max(150, (last.get(element) || 0) + pause - Date.now());
  planned.set(key, setTimeout(() => {
    planned.delete(key);
    const current = document.getElementById(key);
    if (!current || current.contains(document.activeElement) && document.activeElement.matches("input, select, textarea")) return;
    if (document.hidden) {
      stale.add(key);
      return;
    }
    htmx.trigger(current, "refresh");
  }, wait));
}

const stale = new Set();
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  for (const key of stale) {
    const element = document.getElementById(key);
    if (element) refresh(element);
  }
  stale.clear();
});
document.body.addEventListener("htmx:afterSettle", (event) => {
  if (event.target.id) last.set(event.target, Date.now());
});

function hear(kind, text) {
  let about = {};
  try {
    about = JSON.parse(text) || {};
  } catch {
    about = {};
  }
  for (const element of document.querySelectorAll("[data-live]")) if (concerns(element, kind, about)) refresh(element);
  if (kind === "job" || kind === "run") refreshRow(about.job_id || about.id);
}

// A list keeps its place and its choices: only the row of the job in question is fetched.
function refreshRow(job) {
  const row = job && [...document.querySelectorAll("#rows tr[data-job]")].find((one) => one.dataset.job === job);
  if (!row || planned.has(row)) return;
  planned.set(row, setTimeout(() => {
    planned.delete(row);
    if (!row.isConnected || document.hidden) return;
    const chosen = row.querySelector("input[name=id]")?.checked;
    htmx.ajax("GET", row.dataset.address, { target: row, swap: "outerHTML" }).then(() => {
      const box = [...document.querySelectorAll("#rows input[name=id]")].find((one) => one.value === job);
      if (box && chosen) box.checked = true;
    });
  }, 1000));
}

function listen() {
  const log = document.querySelector("[data-log]");
  const source = new EventSource(log ? `${address}?run_id=${encodeURIComponent(log.dataset.log)}` : address);
  source.addEventListener("open", () => show("live"));
  source.addEventListener("error", () => show(source.readyState === EventSource.CLOSED ? "off" : "live"));
  for (const kind of ["run", "job", "scheduler"]) source.addEventListener(kind, (event) => hear(kind, event.data));
  source.addEventListener("reset", () => {
    for (const element of document.querySelectorAll("[data-live]")) refresh(element);
  });
  source.addEventListener("log", (event) => {
    const said = JSON.parse(event.data);
    const output = [...document.querySelectorAll("[data-log]")].find((one) => one.dataset.log === said.run_id);
    if (!output) return;
    const atEnd = output.scrollTop + output.clientHeight >= output.scrollHeight - 4;
    output.append(said.text.endsWith("\n") ? said.text : `${said.text}\n`);
    if (atEnd) output.scrollTop = output.scrollHeight;
  });
  window.addEventListener("pagehide", () => source.close());
}

if (address) {
  show("waiting");
  listen();
}
