// The MTAs: their state and why, N and why, their queue; and their knobs.

import { call, path } from './api.js';
import { openForm } from './dialogs.js';
import { $, Rows, button, cell, el, heading, row, setAttribute, setText, show } from './dom.js';
import * as format from './format.js';

export class Mtas {
  /** `act(doing, done)` runs an action and says what came of it. */
  constructor(act) {
    this.act = act;
    this.lines = new Map();
    this.rows = new Rows($('mtas').tBodies[0], (name) => this.make(name));
  }

  update(status) {
    this.lines = new Map(status.mtas.map((mta) => [mta.name, mta]));
    this.rows.update(status.mtas.map((mta) => [mta.name, mta]));
  }

  make(name) {
    const of = {};
    for (const key of ['address', 'state', 'why', 'n', 'nWhy', 'queue', 'queueWhy', 'rate', 'limit', 'counts']) {
      of[key] = el('span', { className: ['why', 'nWhy', 'queueWhy', 'address', 'limit'].includes(key) ? 'small' : '' });
    }
    of.state.className = 'state';
    const change = button('Change…', name, () => this.knobs(name));
    const again = button('Call again', name, () =>
      this.act(() => call('POST', `mtas/${path(name)}/resume`, {}), `${name} is called on again.`),
    );
    const made = row(
      heading(name, of.address),
      cell('State', of.state, of.why),
      cell('Connections (N)', of.n, of.nWhy),
      cell('Its queue', of.queue, of.queueWhy),
      cell('Rate', of.rate, of.limit),
      cell('Recipients', of.counts),
      cell('Actions', el('div', { className: 'buttons' }, change, again)),
    );
    made.dataset.mta = name;
    return { row: made, update: (mta) => this.fill(of, mta, again) };
  }

  fill(of, mta, again) {
    // one that was given by its address alone has no other name
    setText(of.address, mta.address === mta.name ? '' : mta.address);
    setText(of.state, mta.state);
    setAttribute(of.state, 'data-state', mta.state);
    setText(of.why, mta.why ?? '');
    setText(of.n, `${mta.established} of ${mta.connections}${mta.target ? ` (${mta.target})` : ''}`);
    setText(of.nWhy, mta.connections_why ?? '');
    setText(of.queue, mta.queue === null || mta.queue === undefined ? '–' : format.count(mta.queue));
    setText(of.queueWhy, mta.queue_why ?? '');
    setText(of.rate, `${format.large(mta.rate_10_s)}/s`);
    setText(of.limit, mta.messages_per_second ? `at most ${mta.messages_per_second}/s` : '');
    const doubt = mta.in_doubt > 0 ? `, ${format.count(mta.in_doubt)} in doubt` : '';
    setText(of.counts, `${format.count(mta.accepted)} accepted, ${format.count(mta.refused)} refused, ${format.count(mta.deferred)} deferred${doubt}`);
    show(again, mta.state === 'paused');
  }

  /** N and rate of one MTA. */
  knobs(name) {
    const mta = this.lines.get(name);
    if (!mta) return;
    const was = {
      n: mta.target === 'auto' ? 'auto' : mta.connections,
      rate: mta.messages_per_second ? String(mta.messages_per_second) : '',
    };
    setText($('mta-knobs-title'), name);
    $('n-auto').checked = was.n === 'auto';
    $('n-fixed').checked = was.n !== 'auto';
    $('n-count').value = mta.connections;
    $('mta-rate').value = was.rate;
    // whoever writes a number means it
    $('n-count').oninput = () => {
      $('n-fixed').checked = true;
    };
    openForm($('mta-knobs'), $('mta-knobs-error'), async () => {
      const n = $('n-auto').checked ? 'auto' : $('n-count').valueAsNumber;
      if (n !== 'auto' && !Number.isInteger(n)) throw new Error('Write a number of connections from 1 to 1000, or choose auto.');
      const said = [];
      if (n !== was.n) {
        await call('POST', `mtas/${path(name)}/connections`, { connections: n });
        said.push(n === 'auto' ? `N of ${name} is found by itself.` : `${name} gets ${n} connections.`);
      }
      const rate = $('mta-rate').value;
      if (rate !== was.rate) {
        const messages_per_second = rate === '' ? null : Number(rate);
        await call('PATCH', `mtas/${path(name)}`, { messages_per_second });
        said.push(rate === '' ? `${name} has no rate any more.` : `${name} gets at most ${rate} messages a second.`);
      }
      return said.length > 0 ? said.join(' ') : `${name} stays as it is.`;
    }, this.act);
  }
}
