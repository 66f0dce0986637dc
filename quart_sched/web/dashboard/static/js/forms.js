// Forms: sends those that a choice completes, and helps with choosing many jobs.

function prepare() {
  for (const form of document.querySelectorAll("form[data-autosubmit]:not([data-done])")) {
    form.dataset.done = "";
    form.addEventListener("change", () => form.requestSubmit());
    const button = form.querySelector("button");
    if (button) button.hidden = true;
  }
  const all = document.querySelector("[data-all]");
  if (all && all.hidden) all.hidden = false;
  count();
}

function boxes() {
  return [...document.querySelectorAll("#rows input[type=checkbox]")];
}

function count() {
  const told = document.querySelector("[data-chosen]");
  if (!told) return;
  const chosen = boxes().filter((box) => box.checked).length;
  told.textContent = chosen ? `${chosen} ✓` : "";
  const all = document.getElementById("all");
  if (all) all.checked = chosen > 0 && chosen === boxes().length;
}

document.body.addEventListener("change", (event) => {
  if (event.target.id === "all") for (const box of boxes()) box.checked = event.target.checked;
  count();
});

// What the list shows is in the address, so that it can be kept and sent on.
document.body.addEventListener("htmx:afterRequest", (event) => {
  const form = event.detail.elt;
  if (form.dataset && form.dataset.address && event.detail.successful) {
    const given = new URLSearchParams([...new FormData(form)].filter(([, value]) => value));
    history.replaceState(null, "", `${form.dataset.address}?${given}`);
  }
});

document.body.addEventListener("htmx:afterSettle", prepare);
prepare();
