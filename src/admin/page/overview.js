// The first look: how fast, how much is left, what limits it, what stands still.

import { $, el, setText, show } from './dom.js';
import * as format from './format.js';
import { TROUBLE, connections, latency } from './series.js';

const CARDS = [
  ['rate', 'Accepted'],
  ['backlog', 'Backlog'],
  ['n', 'Connections (N)'],
  ['latency', 'Final reply'],
  ['outcomes', 'Since its start'],
  ['jobs', 'Jobs'],
];

export class Overview {
  constructor() {
    this.cards = {};
    for (const [key, title] of CARDS) {
      const big = el('span', { className: 'big', id: `now-${key}` });
      const small = el('span', { className: 'small', id: `now-${key}-more` });
      this.cards[key] = { big, small };
      $('now').append(el('div', {}, el('dt', {}, title), el('dd', {}, big, small)));
    }
    this.banner = '';
  }

  say(key, big, small) {
    setText(this.cards[key].big, big);
    setText(this.cards[key].small, small);
  }

  update(status) {
    const { outcomes, backlog, jobs } = status;
    this.say('rate', `${format.large(status.rate_10_s)}/s`, `${format.large(status.rate_60_s * 3600)} an hour, ${format.count(status.in_flight)} in flight`);
    this.say('backlog', format.count(backlog.recipients), this.backlog(status));
    this.connections(status);
    const took = latency(status);
    this.say(
      'latency',
      took ? format.ms(took.p50_ms) : '–',
      took ? `90 % within ${format.ms(took.p90_ms)}, 99 % within ${format.ms(took.p99_ms)}${status.mtas.length > 2 ? ` at ${took.mta}` : ''}` : 'no reply in the last 10 s',
    );
    const trouble = Object.keys(outcomes).filter((name) => name !== 'accepted' && (outcomes[name] > 0 || ['refused', 'deferred'].includes(name)));
    trouble.sort((a, b) => TROUBLE.indexOf(a) - TROUBLE.indexOf(b));
    this.say('outcomes', format.count(outcomes.accepted), `accepted; ${trouble.map((name) => `${format.count(outcomes[name])} ${format.word(name)}`).join(', ')}`);
    this.say('jobs', format.count(jobs.active), `active; ${format.count(jobs.paused)} paused, ${format.count(jobs.done)} done, ${format.count(jobs.cancelled)} cancelled`);
    const owner = status.owners.find((each) => each.command) ?? status.owners[0];
    const up = owner?.uptime_s === null || owner?.uptime_s === undefined ? '' : `, up ${format.duration(owner.uptime_s)}`;
    setText($('where'), status.spool);
    setText($('about'), `infeed ${status.version}; ${owner ? `${owner.command ?? 'somebody'}, ${owner.who}${up}` : 'nobody drains'}; ${bytes(status.space.bytes_free)} free in the spool`);
    this.standing(status);
  }

  backlog({ backlog, rate_10_s, rate_60_s, standstill }) {
    if (backlog.recipients === 0) return 'nothing waits';
    const later = backlog.due < backlog.recipients ? `, ${format.count(backlog.deferred)} deferred` : '';
    if (backlog.due === 0) {
      const next = backlog.next_due_us ? `the next is due in ${format.duration(backlog.next_due_us / 1e6 - Date.now() / 1000)}` : 'none is due';
      return `${next}${later}`;
    }
    if (standstill) return `${format.count(backlog.due)} due${later}; everything is paused`;
    // the last minute is steadier, the last ten seconds are there sooner
    const rate = rate_60_s > 0 ? rate_60_s : rate_10_s;
    const eta = rate > 0 ? `what is due takes ${format.duration(backlog.due / rate)} more` : 'nothing moves';
    return `${format.count(backlog.due)} due${later}; ${eta}`;
  }

  connections(status) {
    const { established, target } = connections(status);
    const at_work = status.mtas.filter((mta) => mta.state !== 'idle');
    const why = at_work.map((mta) => {
      const reason = mta.connections_why ?? (mta.target === 'auto' ? 'found by itself' : 'set by hand or by the configuration');
      return at_work.length > 1 ? `${mta.name}: ${reason}` : reason;
    });
    this.say('n', `${format.count(established)} of ${format.count(target)}`, why.join('; ') || 'no MTA has work');
  }

  /** One of the two buttons; whoever stands on the other one stands on this one then. */
  master(paused) {
    const [here, gone] = paused ? [$('resume-all'), $('pause-all')] : [$('pause-all'), $('resume-all')];
    const held = document.activeElement === gone;
    show(here, true);
    show(gone, false);
    if (held) here.focus();
  }

  /** What holds things up, read out when it changes. */
  standing(status) {
    const lines = [];
    const { standstill, space } = status;
    if (standstill) {
      const since = standstill.since_us ? ` since ${format.moment(standstill.since_us)}` : '';
      lines.push(['Everything is paused', `${since}: ${standstill.reason}`]);
    }
    if (status.note && !(standstill && status.note.startsWith('everything is paused'))) lines.push(['Held up', `: ${status.note}`]);
    if (status.owners.length === 0) lines.push(['Nobody drains this spool', '']);
    for (const left of status.left_alone) lines.push([`${left.job} is left alone`, `: ${left.reason}`]);
    for (const damaged of status.damaged) lines.push(['A job can’t be read', `: ${damaged}`]);
    const full = space.bytes_free <= space.bytes_free_min || (space.inodes_free !== null && space.inodes_free <= space.inodes_free_min);
    if (full) lines.push(['The spool is full', ': nothing can be submitted']);
    this.master(Boolean(standstill));
    const text = JSON.stringify(lines);
    if (text === this.banner) return;
    this.banner = text;
    $('banner').replaceChildren(...lines.map(([what, rest]) => el('p', { className: 'banner' }, el('strong', {}, what), rest)));
  }
}

function bytes(n) {
  return n >= 2 ** 30 ? `${(n / 2 ** 30).toFixed(1)} GiB` : `${Math.round(n / 2 ** 20)} MiB`;
}
