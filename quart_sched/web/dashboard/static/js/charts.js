// Charts: draws what stands beside them as a table, in the colours of the page.

const words = JSON.parse(document.body.dataset.words);
const charts = new Map();

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function seconds(value) {
  if (value == null) return "–";
  if (value < 0.01) return `${Math.round(value * 10000) / 10} ms`;
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 60) return `${Math.round(value * 10) / 10} s`;
  if (value < 3600) return `${Math.round(value / 6) / 10} min`;
  return `${Math.round(value / 360) / 10} h`;
}

const parts = { year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
const time = new Intl.DateTimeFormat("sv-SE", parts);
const exact = new Intl.DateTimeFormat("sv-SE", { ...parts, second: "2-digit" });
// Times of day, and the date where it changes.
function marks(_, splits) {
  let before = "";
  const clock = splits.length > 1 && splits[1] - splits[0] < 60 ? exact : time;
  return splits.map((split) => {
    const [date, at] = clock.format(split * 1000).split(" ");
    const day = date.slice(5);
    const text = day === before ? at : `${at}\n${day}`;
    before = day;
    return text;
  });
}

function axes(format, size) {
  const common = { stroke: colour("quiet"), grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line"), width: 1 }, font: "12px system-ui, sans-serif" };
  return [{ ...common, values: marks }, { ...common, size, values: (_, values) => values.map(format) }];
}

// Where there is one value alone, no line leads to it.
function points(values, size) {
  return values.filter((value) => value != null).length === 1 ? { show: true, size } : { size };
}

const x = { label: words.time, value: (_, value) => (value == null ? "–" : time.format(value * 1000)) };

const kinds = {
  rate(values) {
    const percent = values.rate.map((rate) => (rate == null ? null : 100 * rate));
    return {
      data: [values.at, percent],
      scales: { y: { range: [0, 102] } },
      axes: axes((value) => `${value} %`, 56),
      series: [x, { label: words.succeeded, stroke: colour("succeeded"), fill: colour("succeeded-faint"), width: 2, spanGaps: true, points: points(percent, 5), value: (_, value) => (value == null ? "–" : `${value.toFixed(1)} %`) }],
    };
  },
  durations(values) {
    const value = (_, given) => seconds(given);
    return {
      data: [values.at, values.mean, values.longest],
      scales: { y: { range: (_, low, high) => [0, high || 1] } },
      axes: axes(seconds, 64),
      series: [x, { label: words.mean, stroke: colour("accent"), width: 2, spanGaps: true, points: points(values.mean, 5), value }, { label: words.longest, stroke: colour("quiet"), width: 1, dash: [4, 4], spanGaps: true, points: points(values.longest, 4), value }],
    };
  },
  runs(values) {
    const value = (_, given) => seconds(given);
    const good = values.seconds.map((given, index) => (values.outcome[index] === "succeeded" ? given : null));
    const bad = values.seconds.map((given, index) => (values.outcome[index] === "succeeded" ? null : given));
    return {
      data: [values.at, values.seconds, good, bad],
      scales: { y: { range: (_, low, high) => [0, high || 1] } },
      axes: axes(seconds, 64),
      series: [
        x,
        { label: words.duration, stroke: colour("line-strong"), width: 1, points: { show: false }, value },
        { label: "✓", stroke: colour("succeeded"), width: 0, paths: () => null, points: { show: true, size: 6, fill: colour("succeeded") }, value },
        { label: "✕", stroke: colour("failed"), width: 0, paths: () => null, points: { show: true, size: 9, fill: colour("failed") }, value },
      ],
    };
  },
};

function draw(element) {
  const { data, ...options } = kinds[element.dataset.chart](JSON.parse(element.dataset.values));
  const chart = new uPlot({ ...options, width: Math.max(element.clientWidth, 200), height: 190, cursor: { drag: { x: false } } }, data, element);
  charts.set(element, chart);
}

function drawAll() {
  for (const [element, chart] of charts) {
    if (!element.isConnected) {
      chart.destroy();
      charts.delete(element);
    }
  }
  for (const element of document.querySelectorAll("[data-chart]")) if (!charts.has(element)) draw(element);
}

function redraw() {
  for (const [element, chart] of charts) {
    chart.destroy();
    charts.delete(element);
  }
  drawAll();
}

drawAll();
document.body.addEventListener("htmx:afterSettle", drawAll);
let waiting;
window.addEventListener("resize", () => {
  clearTimeout(waiting);
  waiting = setTimeout(redraw, 150);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
