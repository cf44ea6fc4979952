// Series drawn by uPlot from the JSON beside them; the same numbers stand in a table for everyone else.
const units = {
  count: (value) => value.toLocaleString("en-US", { maximumFractionDigits: 1 }),
  number: (value) => `${+value.toPrecision(3)}`,
  money: (value) => `$${value === 0 ? "0" : value >= 1 ? value.toFixed(2) : value.toPrecision(2).replace(/(\.\d*?)0+$/, "$1")}`,
  seconds: (value) => (value >= 1 || value === 0 ? `${+value.toFixed(2)} s` : `${Math.round(value * 1000)} ms`),
  share: (value) => `${+(value * 100).toFixed(1)} %`,
};

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function axis(format) {
  const line = colour("--line");
  return { stroke: colour("--faint"), font: "11px sans-serif", grid: { stroke: line, width: 1 }, ticks: { show: false }, ...format };
}

const two = (number) => String(number).padStart(2, "0");

function clock(seconds) {
  const at = new Date(seconds * 1000);
  return `${at.getDate()} ${at.toLocaleString("en-GB", { month: "short" })} ${two(at.getHours())}:${two(at.getMinutes())}`;
}

function tickTimes(_, ticks) {
  return ticks.map((tick) => {
    const at = new Date(tick * 1000);
    const isMidnight = at.getHours() === 0 && at.getMinutes() === 0;
    return isMidnight ? `${at.getDate()} ${at.toLocaleString("en-GB", { month: "short" })}` : `${two(at.getHours())}:${two(at.getMinutes())}`;
  });
}

// A value between two gaps has no line to stand on: it gets a point.
function lonely(values) {
  const isThere = (index) => values[index] !== null && values[index] !== undefined;
  return values.map((_, index) => index).filter((index) => isThere(index) && !isThere(index - 1) && !isThere(index + 1));
}

function drawing(element, data) {
  const format = units[data.unit] ?? units.count;
  const bars = data.kind === "bars" ? { paths: uPlot.paths.bars({ size: [0.7, 40] }), points: { show: false } } : {};
  return {
    width: element.clientWidth - 16,
    height: 190,
    cursor: { y: false, points: { size: 6 } },
    scales: { x: { range: (_, low, high) => (low === high ? [low - 1800, high + 1800] : [low, high]) }, y: { range: (_, low, high) => [Math.min(0, low), high > 0 ? high * 1.08 : 1] } },
    axes: [axis({ size: 28, values: tickTimes, space: 64 }), axis({ size: 62, values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : format(tick))) })],
    bands: (data.bands ?? []).map(([high, low]) => ({ series: [high + 1, low + 1], fill: `${colour(`--series-${(data.series[high].colour ?? high % 6) + 1}`)}2e` })),
    series: [
      { label: "", value: (_, at) => (at === null ? "" : clock(at)) },
      ...data.series.map((line, index) => ({
        label: line.label,
        stroke: colour(`--series-${(line.colour ?? index % 6) + 1}`),
        fill: data.kind === "bars" ? colour(`--series-${(line.colour ?? index % 6) + 1}`) : undefined,
        width: 1.8,
        dash: line.dashed ? [5, 4] : undefined,
        spanGaps: false,
        points: { show: true, size: 7, filter: () => lonely(line.values) },
        value: (_, value) => (value === null ? "–" : format(value)),
        ...bars,
      })),
    ],
  };
}

function draw(element) {
  const data = JSON.parse(element.querySelector("script[type='application/json']").textContent);
  element.querySelector(".uplot")?.remove();
  const plot = new uPlot(drawing(element, data), [data.times, ...data.series.map((line) => line.values)], element);
  new ResizeObserver(() => {
    if (element.clientWidth > 32 && Math.abs(plot.width - element.clientWidth + 16) > 1) plot.setSize({ width: element.clientWidth - 16, height: 190 });
  }).observe(element);
}

export function charts(root) {
  if (typeof uPlot === "undefined") return;
  const found = root.querySelectorAll("[data-chart]");
  for (const element of found) draw(element);
}

if (typeof window !== "undefined") {
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts(document));
}
