// The charts: each with its legend, a summary in words, and its last minute as a table.

import { el, setText } from './dom.js';
import * as format from './format.js';
import { TROUBLE } from './series.js';

const HEIGHT = 170;
/** Rows of the table, and seconds between them. */
const TABLE_ROWS = 10;
const TABLE_EVERY_S = 6;
/** Lines differ in more than colour. */
const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3], [4, 4]];

const last = (column) => column.findLast((value) => value !== null);
const highest = (column) => column.reduce((most, value) => (value !== null && value > most ? value : most), 0);
const per_second = (n) => (n === undefined || n === null ? '–' : `${format.large(n)}/s`);
const plain = (n) => (n === undefined || n === null ? '–' : format.count(n));
const milliseconds = (n) => (n === undefined || n === null ? '–' : format.ms(n));

const CHARTS = [
  {
    title: 'Throughput',
    series: [['accepted', 'accepted']],
    value: per_second,
    axis: (n) => format.large(n),
    summary: ({ accepted }) => `Now ${per_second(last(accepted))} accepted, at most ${per_second(highest(accepted))}.`,
  },
  {
    title: 'Connections (N)',
    series: [['established', 'established'], ['target', 'wanted']],
    value: plain,
    axis: (n) => format.large(n),
    summary: ({ established, target }) => `Now ${plain(last(established))} of ${plain(last(target))} wanted, at most ${plain(highest(established))}.`,
  },
  {
    title: 'Final reply of the MTA',
    series: [['p50', 'half within'], ['p90', '90 % within'], ['p99', '99 % within']],
    value: milliseconds,
    axis: (n) => format.ms(n),
    summary: ({ p50, p90, p99 }) => {
      // the last of all of them: what isn't there now isn't told
      const now = (column) => milliseconds(column.at(-1));
      return `Now half within ${now(p50)}, 90 % within ${now(p90)}, 99 % within ${now(p99)}.`;
    },
  },
  {
    title: 'Not accepted',
    series: TROUBLE.map((outcome) => [outcome, format.word(outcome)]),
    value: per_second,
    axis: (n) => format.large(n),
    summary: (columns) => {
      const now = TROUBLE.filter((outcome) => last(columns[outcome]) > 0);
      if (now.length > 0) return `Now ${now.map((outcome) => `${per_second(last(columns[outcome]))} ${format.word(outcome)}`).join(', ')}.`;
      const ever = TROUBLE.filter((outcome) => highest(columns[outcome]) > 0);
      return ever.length > 0 ? `Now nobody; ${ever.map(format.word).join(', ')} in the last ten minutes.` : 'Nobody in the last ten minutes.';
    },
  },
];

/** All of them, drawn into `place`. */
export class Charts {
  constructor(place, series) {
    this.series = series;
    this.charts = CHARTS.map((what) => new Chart(place, what, series));
    // colours are the style sheet's
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.charts.forEach((chart) => chart.rebuild()));
  }

  update() {
    this.charts.forEach((chart) => chart.update());
  }
}

class Chart {
  constructor(place, what, series) {
    this.what = what;
    this.source = series;
    this.plot = null;
    this.summary = el('p', { className: 'summary' });
    this.hover = el('p', { className: 'hover', 'aria-hidden': 'true' });
    this.canvas = el('div', { className: 'plot', 'aria-hidden': 'true' });
    this.table = el('table', { className: 'numbers' });
    const scroll = el('div', { className: 'scroll', tabIndex: 0, role: 'region', 'aria-label': `Numbers of ${what.title}` }, this.table);
    this.details = el('details', {}, el('summary', {}, 'Numbers', el('span', { className: 'unseen' }, ` of ${what.title}`)), scroll);
    this.details.addEventListener('toggle', () => this.tabulate());
    const legend = el('ul', { className: 'legend', 'aria-hidden': 'true' });
    what.series.forEach(([, name], i) => legend.append(el('li', {}, el('span', { className: `swatch line-${i + 1}` }), name)));
    place.append(el('figure', {}, el('figcaption', {}, what.title), this.summary, this.canvas, legend, this.hover, this.details));
    this.resizing = new ResizeObserver(() => this.resize());
    this.resizing.observe(this.canvas);
  }

  width() {
    return Math.floor(this.canvas.clientWidth);
  }

  resize() {
    const width = this.width();
    if (width <= 0) return;
    if (!this.plot) this.rebuild();
    else if (this.plot.width !== width) this.plot.setSize({ width, height: HEIGHT });
  }

  data() {
    return [this.source.at, ...this.what.series.map(([name]) => this.source.columns[name])];
  }

  rebuild() {
    const width = this.width();
    if (width <= 0) return;
    this.plot?.destroy();
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = { stroke: colour('--ink-soft'), grid: { stroke: colour('--grid'), width: 1 }, ticks: { stroke: colour('--grid'), width: 1 }, font: '12px system-ui, sans-serif' };
    const series = this.what.series.map(([, label], i) => ({
      label,
      stroke: colour(`--line-${i + 1}`),
      width: 2,
      dash: DASHES[i],
      points: { show: false },
    }));
    const options = {
      width,
      height: HEIGHT,
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false } },
      scales: {
        x: { range: (_, from, to) => [Math.min(from, to - 60), to] },
        // from zero, and never flat
        y: { range: (_, __, to) => [0, Math.max(to * 1.1, 1)] },
      },
      axes: [
        { ...axis, values: (_, ticks) => ticks.map((at) => format.time(at * 1000)), space: 80 },
        { ...axis, values: (_, ticks) => ticks.map(this.what.axis), size: 64 },
      ],
      series: [{}, ...series],
      hooks: { setCursor: [(plot) => this.point(plot.cursor.idx)] },
    };
    this.plot = new uPlot(options, this.data(), this.canvas);
  }

  point(at) {
    if (at === null || at === undefined || this.source.at[at] === undefined) {
      setText(this.hover, '');
      return;
    }
    const values = this.what.series.map(([name, label]) => `${label} ${this.what.value(this.source.columns[name][at])}`);
    setText(this.hover, `${format.time(this.source.at[at] * 1000)}: ${values.join(', ')}`);
  }

  update() {
    setText(this.summary, this.what.summary(this.source.columns));
    this.plot?.setData(this.data());
    this.tabulate();
  }

  /** The last minute in numbers, for those who don't see lines. */
  tabulate() {
    if (!this.details.open) return;
    const { at, columns } = this.source;
    const head = el('tr', {}, el('th', { scope: 'col' }, 'Time'), ...this.what.series.map(([, label]) => el('th', { scope: 'col' }, label)));
    const rows = [];
    for (let i = at.length - 1; i >= 0 && rows.length < TABLE_ROWS; i -= TABLE_EVERY_S) {
      const values = this.what.series.map(([name]) => el('td', {}, this.what.value(columns[name][i])));
      rows.push(el('tr', {}, el('th', { scope: 'row' }, format.time(at[i] * 1000)), ...values));
    }
    this.table.replaceChildren(el('caption', { className: 'unseen' }, this.what.title), el('thead', {}, head), el('tbody', {}, ...rows));
  }
}
