// Times: counts down to what comes, and adds the viewer's own time to those of the scheduler.

const words = JSON.parse(document.body.dataset.words);
const language = document.documentElement.lang;
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
const parts = { year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
const clock = new Intl.DateTimeFormat("sv-SE", parts);

function wall(moment) {
  return clock.format(moment).replace(",", "");
}

function distance(seconds) {
  const total = Math.abs(Math.round(seconds));
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const counted = [];
  let rest = total;
  for (const [size, unit] of units) {
    counted.push([Math.floor(rest / size), unit]);
    rest %= size;
  }
  const first = counted.findIndex(([count]) => count > 0);
  const shown = first < 0 ? [] : counted.slice(first, first + 2).filter(([count]) => count > 0);
  return shown.map(([count, unit]) => `${count} ${unit}`).join(" ") || "0 s";
}

function countDown() {
  const now = Date.now();
  for (const element of document.querySelectorAll("[data-until]")) {
    const seconds = (Date.parse(element.dataset.until) - now) / 1000;
    const text = (seconds >= 0 ? words.in : words.ago).replace("{distance}", distance(seconds));
    if (element.textContent !== text) element.textContent = text;
  }
}

function localize(root) {
  for (const element of root.querySelectorAll("time[data-time]:not([data-done])")) {
    element.dataset.done = "";
    const local = wall(new Date(element.dateTime));
    if (element.title.startsWith(local)) continue;
    if (element.dataset.time === "both") {
      const own = document.createElement("span");
      own.className = "yours";
      const sameDay = element.title.startsWith(local.slice(0, 10));
      own.textContent = ` · ${sameDay ? local.slice(11) : local} ${words.yours}`;
      element.append(own);
    } else {
      element.textContent = local;
    }
  }
  for (const note of root.querySelectorAll("[data-zone]:not([data-done])")) {
    note.dataset.done = "";
    note.textContent = `(${zone})`;
  }
  for (const tick of root.querySelectorAll("text[data-axis]:not([data-done])")) {
    tick.dataset.done = "";
    const local = wall(new Date(tick.dataset.axis));
    tick.textContent = tick.dataset.span === "7d" ? local.slice(5, 10) : local.slice(11, 16);
  }
}

const note = document.querySelector("[data-viewer-zone]");
if (note) note.textContent = note.previousElementSibling.textContent === zone ? `(${words.same})` : `· ${words.yours}: ${zone}`;
localize(document);
countDown();
setInterval(countDown, 1000);
document.body.addEventListener("htmx:afterSettle", () => {
  localize(document);
  countDown();
});
