// Forms: sends each once, and helps with choosing many jobs.

// What is asked for twice before there is an answer is asked for once.
const sent = new Map();

function content(form, submitter) {
  return `${form.getAttribute("action")} ${new URLSearchParams(new FormData(form, submitter))}`;
}

window.addEventListener("pageshow", () => sent.clear());
// By its request: the form itself is mostly gone by the time of the answer, and what happens to it is not heard here.
document.body.addEventListener("htmx:beforeSend", ({ detail: { elt, xhr } }) => {
  if (!(elt instanceof HTMLFormElement)) return;
  const what = content(elt);
  clearTimeout(sent.get(what));
  xhr.addEventListener("loadend", () => sent.delete(what));
});
window.addEventListener("submit", (event) => {
  if (event.target.method !== "post") return;
  const what = content(event.target, event.submitter);
  if (sent.has(what)) {
    event.preventDefault();
    event.stopImmediatePropagation();
    return;
  }
  // Nothing tells that the browser stays here: that it was stopped, or has opened the answer elsewhere.
  sent.set(what, setTimeout(() => sent.delete(what), 5000));
}, { capture: true });
// The second click of two may find another button in the place of the first.
window.addEventListener("click", (event) => {
  if (event.detail > 1 && event.target.closest("button")?.form?.method === "post") event.preventDefault();
}, { capture: true });

function prepare() {
  const all = document.querySelector("[data-all]");
  if (all && all.hidden) all.hidden = false;
  // What is ticked stays so in what comes in its place.
  for (const box of boxes()) if (chosen.has(box.value)) box.checked = true;
  count();
}

function boxes() {
  return [...document.querySelectorAll("#rows input[type=checkbox]")];
}

let chosen = new Set();

function count() {
  const told = document.querySelector("[data-chosen]");
  if (!told) return;
  chosen = new Set(boxes().filter((box) => box.checked).map((box) => box.value));
  told.textContent = chosen.size ? `${chosen.size} ✓` : "";
  const all = document.getElementById("all");
  if (all) all.checked = chosen.size > 0 && chosen.size === boxes().length;
}

document.body.addEventListener("change", (event) => {
  if (event.target.id === "all") for (const box of boxes()) box.checked = event.target.checked;
  count();
});

// What the list shows is in the address, so that it can be kept and sent on.
document.body.addEventListener("htmx:afterRequest", (event) => {
  const form = event.detail.elt;
  if (form instanceof HTMLFormElement && form.dataset.address && event.detail.successful) {
    const given = new URLSearchParams([...new FormData(form)].filter(([, value]) => value));
    history.replaceState(null, "", `${form.dataset.address}?${given}`);
  }
});

document.body.addEventListener("htmx:afterSettle", prepare);
prepare();
