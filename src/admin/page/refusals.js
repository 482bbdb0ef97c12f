// Who was not accepted lately, and what the MTA said.

import { $, cell, el, heading, row, setAttribute, setText, show } from './dom.js';
import * as format from './format.js';

export class Refusals {
  constructor() {
    this.shown = '';
  }

  update(status) {
    const refusals = status.refusals ?? [];
    const shown = JSON.stringify(refusals);
    if (shown === this.shown) return;
    this.shown = shown;
    show($('refusals'), refusals.length > 0);
    show($('refusals-none'), refusals.length === 0);
    // rows are filled anew from the top: nothing in them can have the focus
    const body = $('refusals').tBodies[0];
    while (body.rows.length > refusals.length) body.deleteRow(-1);
    while (body.rows.length < refusals.length) body.append(blank());
    refusals.forEach((refusal, i) => fill(body.rows[i], refusal));
  }
}

function blank() {
  const word = el('span', { className: 'state' });
  return row(heading(''), cell('Outcome', word), foreign('Recipient'), foreign('The MTA said'), foreign('Job, MTA'));
}

function foreign(label) {
  const made = cell(label);
  made.className = 'foreign';
  return made;
}

function fill(made, refusal) {
  const [time, outcome, recipient, said, where] = made.cells;
  setText(time, format.moment(refusal.at_us));
  setText(outcome.firstChild, format.word(refusal.outcome));
  setAttribute(outcome.firstChild, 'data-state', refusal.outcome);
  setText(recipient, refusal.recipient);
  setText(said, format.said(refusal));
  setText(where, `${refusal.job}, ${refusal.mta}`);
}
