// What the charts draw: ten minutes of statuses, one a second.

const KEPT_S = 600;
/** A clock that is set back by more begins a new chart. */
const BACK_S = 5;
/** Outcomes that somebody should look at, in the order of the chart. */
export const TROUBLE = ['refused', 'deferred', 'expired', 'in_doubt', 'quarantined'];

/** MTAs whose number of connections counts: those at work, and the real ones. */
const counts = (mta) => mta.state !== 'idle' || mta.name !== 'sink';

export function connections(status) {
  const mtas = status.mtas.filter(counts);
  const sum = (of) => mtas.reduce((all, mta) => all + of(mta), 0);
  return { established: sum((mta) => mta.established), target: sum((mta) => mta.connections) };
}

/** What the final reply took, at the slowest MTA; `null`: there was none lately. */
export function latency(status) {
  const phases = (status.phases ?? []).filter((phase) => phase.phase === 'content');
  if (phases.length === 0) return null;
  return phases.reduce((slow, phase) => (phase.p90_ms > slow.p90_ms ? phase : slow));
}

export class Series {
  constructor() {
    this.at = [];
    this.columns = { accepted: [], established: [], target: [], p50: [], p90: [], p99: [] };
    for (const outcome of TROUBLE) this.columns[outcome] = [];
    this.before = null;
  }

  /** Takes a status that came at `at` (seconds). */
  add(status, at) {
    if (this.before && at <= this.before.at) {
      // the clock was set back
      if (this.before.at - at > BACK_S) this.clear();
      else return;
    }
    const before = this.before;
    const seconds = before ? at - before.at : 0;
    const started = uptime(status);
    // another process counts from 0 again
    const goes_on = before && !before.interrupted && started >= before.uptime;
    if (before && !goes_on) this.push(at - Math.min(seconds, 1) / 2, {});
    const per_second = (outcome) => {
      if (!goes_on) return null;
      const grown = (status.outcomes[outcome] ?? 0) - (before.outcomes[outcome] ?? 0);
      return grown >= 0 ? grown / seconds : null;
    };
    const { established, target } = connections(status);
    const took = latency(status);
    const values = { accepted: per_second('accepted'), established, target };
    for (const outcome of TROUBLE) values[outcome] = per_second(outcome);
    for (const q of ['p50', 'p90', 'p99']) values[q] = took ? took[`${q}_ms`] : null;
    this.push(at, values);
    this.before = { at, outcomes: status.outcomes, uptime: started, interrupted: false };
    while (this.at.length > 0 && at - this.at[0] > KEPT_S) this.shift();
  }

  /** Nothing came for a while: the lines break here. */
  interrupt() {
    if (this.before) this.before.interrupted = true;
  }

  clear() {
    this.at.length = 0;
    for (const column of Object.values(this.columns)) column.length = 0;
    this.before = null;
  }

  push(at, values) {
    this.at.push(at);
    for (const [name, column] of Object.entries(this.columns)) column.push(values[name] ?? null);
  }

  shift() {
    this.at.shift();
    for (const column of Object.values(this.columns)) column.shift();
  }
}

/** Seconds that the oldest of the owners is up. */
function uptime(status) {
  return Math.max(0, ...status.owners.map((owner) => owner.uptime_s ?? 0));
}
