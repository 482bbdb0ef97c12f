// The jobs: how far they are, and pause, resume, cancel, rate.

import { call, path } from './api.js';
import { ask, openForm } from './dialogs.js';
import { $, Rows, button, cell, el, heading, relabel, row, setAttribute, setText, show } from './dom.js';
import * as format from './format.js';

/** Jobs that have ended and are shown, at most. */
const ENDED_MAX = 20;
const UNFINISHED = ['pending', 'deferred'];

/** What a row shows, of an active job. */
function ofLine(line) {
  return {
    state: 'active',
    why: [line.waits_for_window, line.waits_for_rate ? 'waits for its rate' : null].filter(Boolean).join('; '),
    recipients: line.recipients,
    counts: { accepted: line.accepted, refused: line.refused, deferred: line.deferred, pending: line.pending },
    rate: line.messages_per_second,
    windows: line.windows ?? [],
  };
}

/** The same of a job that was asked for by itself. */
function ofView(view) {
  const chosen = view.standing.messages_per_second;
  return {
    state: view.state,
    why: view.state === 'paused' ? view.standing.paused_reason ?? '' : '',
    recipients: view.meta.recipients,
    counts: view.counts,
    // 0 is what JSON has for a limit that was lifted
    rate: chosen === undefined ? view.meta.messages_per_second ?? null : chosen || null,
    windows: view.standing.windows ?? view.meta.windows ?? [],
    ended_us: view.standing.ended_us ?? 0,
  };
}

const unfinished = (job) => UNFINISHED.reduce((sum, outcome) => sum + (job.counts[outcome] ?? 0), 0);

/** `35,800 accepted, 0 refused, 200 deferred, 48,011 pending` */
function countsText(job) {
  const always = job.state === 'active' || job.state === 'paused' ? ['accepted', 'refused', 'deferred', 'pending'] : ['accepted', 'refused'];
  const names = [...always, ...Object.keys(job.counts).filter((name) => !always.includes(name) && job.counts[name] > 0)];
  return names.map((name) => `${format.count(job.counts[name])} ${format.word(name)}`).join(', ');
}

export class Jobs {
  constructor(act) {
    this.act = act;
    /** What is known of each job that is shown. */
    this.known = new Map();
    /** Jobs that were asked for, by what they were asked for as. */
    this.asked = new Map();
    this.rows = new Rows($('jobs').tBodies[0], (job) => this.make(job));
    $('jobs-ended').addEventListener('click', () => this.showEnded());
  }

  update(status) {
    const stands = new Set();
    for (const line of status.active) {
      stands.add(line.job);
      this.known.set(line.job, ofLine(line));
      this.asked.delete(line.job);
    }
    for (const { job, reason, since_us } of status.paused) {
      stands.add(job);
      const known = this.known.get(job);
      // its counts are those of before, until they were asked for
      const before = known ?? { recipients: 0, counts: {}, rate: null, windows: [] };
      if (known?.state !== 'paused' || known.why !== reason) this.known.set(job, { ...before, state: 'paused', why: reason });
      this.look(job, `paused ${since_us} ${reason}`);
    }
    for (const [job, known] of this.known) {
      if (stands.has(job) || known.state === 'done' || known.state === 'cancelled') continue;
      // one that is active may be beyond those that a status tells
      if (known.state === 'active' && status.jobs.active > status.active.length) {
        this.known.delete(job);
        continue;
      }
      this.look(job, `left ${known.state}`);
    }
    this.prune();
    show($('jobs-none'), status.jobs.active + status.jobs.paused === 0);
    const more = status.jobs.active - status.active.length;
    setText($('jobs-more'), more > 0 ? `${format.count(more)} more are active; those with the most left are shown.` : '');
    this.draw();
  }

  draw() {
    this.rows.update([...this.known]);
    show($('jobs'), this.known.size > 0);
  }

  /** Asks for one job, once for each reason to. */
  async look(job, why) {
    if (this.asked.get(job) === why) return;
    this.asked.set(job, why);
    try {
      const view = ofView(await call('GET', `jobs/${path(job)}`));
      if (this.asked.get(job) !== why) return;
      this.known.set(job, view);
      // it was on its way: the next status asks again
      if (view.state === 'active') this.asked.delete(job);
    } catch (error) {
      // removed; else the next status asks again
      if (error.status === 404) this.known.delete(job);
      else this.asked.delete(job);
    }
    this.draw();
  }

  /** Only the last ones that ended stay. */
  prune() {
    const ended = [...this.known].filter(([, job]) => job.state === 'done' || job.state === 'cancelled');
    ended.sort(([, a], [, b]) => b.ended_us - a.ended_us);
    for (const [job] of ended.slice(ENDED_MAX)) {
      this.known.delete(job);
      this.asked.delete(job);
    }
  }

  showEnded() {
    this.act(async () => {
      const all = await call('GET', 'jobs');
      for (const { Ok: view } of all) {
        if (view && (view.state === 'done' || view.state === 'cancelled')) this.known.set(view.job, ofView(view));
      }
      this.prune();
      this.draw();
      const shown = [...this.known.values()].filter((job) => job.state === 'done' || job.state === 'cancelled').length;
      return `${shown} jobs that have ended are shown.`;
    });
  }

  make(name) {
    const of = {
      state: el('span', { className: 'state' }),
      why: el('span', { className: 'small' }),
      bar: el('progress', { 'aria-label': `Progress of ${name}` }),
      part: el('span', { className: 'small' }),
      counts: el('span', {}),
      pace: el('span', { className: 'small' }),
    };
    const turn = button('Pause', name, () => (this.known.get(name)?.state === 'paused' ? this.resume(name) : this.pause(name)));
    const cancel = button('Cancel…', name, () => this.cancel(name));
    const rate = button('Rate…', name, () => this.rate(name));
    const buttons = el('div', { className: 'buttons' }, turn, rate, cancel);
    const made = row(heading(name), cell('State', of.state, of.why), cell('Progress', of.bar, of.part), cell('Recipients', of.counts, of.pace), cell('Actions', buttons));
    made.dataset.job = name;
    return { row: made, update: (job) => this.fill(name, made, of, job, { turn, buttons }) };
  }

  fill(name, made, of, job, { turn, buttons }) {
    setText(of.state, job.state);
    setAttribute(of.state, 'data-state', job.state);
    setText(of.why, job.why);
    // whoever was cancelled got nothing
    const finished = job.recipients - unfinished(job) - (job.counts.cancelled ?? 0);
    const part = job.recipients > 0 ? finished / job.recipients : 0;
    // never 100 before the last one
    const percent = finished === job.recipients ? 100 : Math.min(99, Math.floor(part * 100));
    of.bar.max = Math.max(job.recipients, 1);
    of.bar.value = finished;
    setText(of.part, `${format.count(finished)} of ${format.count(job.recipients)}, ${percent}\u00a0%`);
    setText(of.counts, countsText(job));
    const pace = [job.rate ? `at most ${job.rate}/s` : '', job.windows.length > 0 ? `only ${job.windows.join('; ')}` : ''];
    setText(of.pace, pace.filter(Boolean).join(', '));
    relabel(turn, job.state === 'paused' ? 'Resume' : 'Pause', name);
    const stands = job.state === 'active' || job.state === 'paused';
    if (!stands && buttons.contains(document.activeElement)) $('jobs-title').focus();
    show(buttons, stands);
    setAttribute(made, 'data-state', job.state);
  }

  pause(name) {
    return this.act(() => call('POST', `jobs/${path(name)}/pause`, { reason: 'paused on the page' }), `${name} is paused: what was in flight has ended.`);
  }

  async resume(name) {
    const job = this.known.get(name);
    if (!job) return;
    let accept_refusals = false;
    // the refusal breaker's reason begins with what the MTA said
    if (/^[45]/.test(job.why)) {
      const answer = await ask({
        title: `Resume ${name}?`,
        text: [`It was paused by the refusal breaker: ${job.why}`, `${format.count(unfinished(job))} recipients wait.`],
        yes: `Resume ${name}`,
        no: 'Leave it paused',
        choice: 'Take refusals as final: don’t pause it again for them',
      });
      if (!answer) return;
      accept_refusals = answer.checked;
    }
    await this.act(() => call('POST', `jobs/${path(name)}/resume`, { accept_refusals }), `${name} goes on.`);
  }

  async cancel(name) {
    const job = this.known.get(name);
    if (!job) return;
    const answer = await ask({
      title: `Cancel ${name}?`,
      text: [
        `${format.count(unfinished(job))} of its ${format.count(job.recipients)} recipients will never get it. Now: ${countsText(job)}.`,
        'What is in flight ends; what was accepted is the MTA’s. This can’t be undone.',
      ],
      yes: `Cancel ${name}`,
      no: 'Keep it',
      danger: true,
    });
    if (answer) await this.act(() => call('POST', `jobs/${path(name)}/cancel`, {}), `${name} is cancelled.`);
  }

  rate(name) {
    const job = this.known.get(name);
    if (!job) return;
    setText($('job-rate-title'), `Rate of ${name}`);
    $('job-rate-value').value = job.rate ?? '';
    openForm($('job-rate'), $('job-rate-error'), async () => {
      const rate = $('job-rate-value').value;
      const view = await call('POST', `jobs/${path(name)}/rate`, { messages_per_second: rate === '' ? null : Number(rate) });
      if (view?.state === 'paused') this.known.set(name, ofView(view));
      this.draw();
      return rate === '' ? `${name} has no rate any more.` : `${name} sends at most ${rate} messages a second.`;
    }, this.act);
  }
}
