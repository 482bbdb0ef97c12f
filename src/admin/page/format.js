// Numbers and times for people.

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 });
const clockTime = new Intl.DateTimeFormat('en-GB', { timeStyle: 'medium' });
const dayTime = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'medium' });

/** 8,423,311 */
export const count = (n) => whole.format(n ?? 0);

/** 4.33 M, 87.1 k, 310 */
export function large(n) {
  if (!Number.isFinite(n)) return '–';
  if (n >= 999.5e3) return `${short.format(n / 1e6)} M`;
  if (n >= 9.995e3) return `${short.format(n / 1e3)} k`;
  return n >= 100 ? whole.format(n) : short.format(n);
}

/** 0.8 ms, 42 ms, 1.25 s */
export function ms(n) {
  if (!Number.isFinite(n)) return '–';
  return n >= 1000 ? `${short.format(n / 1000)} s` : `${short.format(n)} ms`;
}

/** `3 d 4 h`, `12 min 5 s`, `7 s`: the two largest units. */
export function duration(seconds) {
  let left = Math.max(0, Math.round(seconds));
  const parts = [];
  for (const [size, name] of [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']]) {
    if (left >= size && parts.length < 2) parts.push(`${Math.floor(left / size)} ${name}`);
    else if (parts.length > 0) break;
    left %= size;
  }
  return parts.length > 0 ? parts.join(' ') : '0 s';
}

/** Today's as a time, older ones with their day; `us` since the epoch. */
export function moment(us) {
  const date = new Date(us / 1000);
  const today = date.toDateString() === new Date().toDateString();
  return (today ? clockTime : dayTime).format(date);
}

export const time = (date) => clockTime.format(date);

/** What the MTA said: codes and text. */
export function said({ code, enhanced, text }) {
  return [code > 0 ? code : '', enhanced, text].filter(Boolean).join(' ');
}

/** `in_doubt` as people read it. */
export const word = (outcome) => outcome.replaceAll('_', ' ');
