// Talks to the daemon: the token, calls, and the stream of statuses.

const KEY = 'infeed.token';
/**
 * A status comes every second, of a large spool more seldom. A stream that is silent for so long, and for
 * several times as long as between the last two, is dead, whatever TCP thinks.
 */
const SILENCE_MS_MIN = 15_000;
const SILENCE_INTERVALS = 4;
/** Nothing has come yet: the first one may have to be made. */
const SILENCE_MS_FIRST = 60_000;
const WAIT_MS_MIN = 1_000;
const WAIT_MS_MAX = 30_000;

export const token = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

/** The daemon refused, or couldn't be reached (`status` 0). */
export class ApiError extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

const headers = () => ({ Authorization: `Bearer ${token.get()}` });

async function refusal(response) {
  let text = '';
  try {
    text = (await response.json()).error;
  } catch {
    // not ours: a proxy's page, or nothing
  }
  if (typeof text !== 'string' || text === '') text = `the daemon answered ${response.status}`;
  return new ApiError(response.status, text);
}

/** Calls `/api/v1/…`; the answer, or an [`ApiError`] with what the daemon says of it. */
export async function call(method, path, body) {
  let response;
  try {
    response = await fetch(`/api/v1/${path}`, {
      method,
      headers: body === undefined ? headers() : { ...headers(), 'Content-Type': 'application/json' },
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: 'no-store',
      credentials: 'omit',
      redirect: 'error',
    });
  } catch {
    throw new ApiError(0, 'the daemon can’t be reached');
  }
  if (!response.ok) throw await refusal(response);
  const text = await response.text();
  return text === '' ? null : JSON.parse(text);
}

/** A path of parts that may hold anything. */
export const path = (...parts) => parts.map(encodeURIComponent).join('/');

/**
 * Follows the daemon's statuses until `stop()`: `onStatus(status)` for each, `onTrouble(text)` when the
 * daemon can't make one, `onLost(why)` when the stream has ended and another one will be tried,
 * `onRefused(text)` when the token isn't taken (and nothing is tried again).
 */
export function follow({ onStatus, onTrouble, onLost, onRefused }) {
  let stopped = false;
  let wait = WAIT_MS_MIN;
  let wake = () => {};
  let current = null;

  async function once() {
    const abort = new AbortController();
    current = abort;
    let watchdog;
    let heard = null;
    const expect = (ms) => {
      clearTimeout(watchdog);
      watchdog = setTimeout(() => abort.abort(), ms);
    };
    const alive = () => {
      const now = performance.now();
      expect(heard === null ? SILENCE_MS_FIRST : Math.max(SILENCE_MS_MIN, SILENCE_INTERVALS * (now - heard)));
      heard = now;
    };
    try {
      expect(SILENCE_MS_FIRST);
      const response = await fetch('/api/v1/events', {
        headers: { ...headers(), Accept: 'text/event-stream' },
        cache: 'no-store',
        credentials: 'omit',
        redirect: 'error',
        signal: abort.signal,
      });
      if (!response.ok) throw await refusal(response);
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      const parser = new Events((event, data) => {
        if (stopped) return;
        alive();
        wait = WAIT_MS_MIN;
        if (event === 'status') onStatus(JSON.parse(data));
        else if (event === 'trouble') onTrouble(JSON.parse(data).error);
      });
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return 'the daemon ended it';
        parser.push(value);
      }
    } catch (error) {
      if (error instanceof ApiError) throw error;
      return abort.signal.aborted ? 'the daemon was silent for too long' : 'the daemon can’t be reached';
    } finally {
      clearTimeout(watchdog);
      abort.abort();
    }
  }

  async function run() {
    while (!stopped) {
      let why;
      try {
        why = await once();
      } catch (error) {
        if (error.status === 401 || error.status === 403) {
          if (!stopped) onRefused(error.message);
          return;
        }
        why = error.message;
      }
      if (stopped) return;
      // not all pages at once, after a restart
      const pause = wait * (0.75 + Math.random() / 2);
      onLost(why);
      await new Promise((resolve) => {
        wake = resolve;
        setTimeout(resolve, pause);
      });
      wait = Math.min(wait * 2, WAIT_MS_MAX);
    }
  }

  // whoever comes back to the tab, or the network that does, waits for nothing
  const hurry = () => {
    if (document.visibilityState === 'visible') wake();
  };
  window.addEventListener('online', hurry);
  document.addEventListener('visibilitychange', hurry);
  run();
  return {
    stop() {
      stopped = true;
      window.removeEventListener('online', hurry);
      document.removeEventListener('visibilitychange', hurry);
      wake();
      current?.abort();
    },
  };
}

/** Server-sent events out of text that comes in pieces. */
export class Events {
  constructor(onEvent) {
    this.onEvent = onEvent;
    this.rest = '';
    this.event = '';
    this.data = [];
  }

  push(text) {
    const lines = (this.rest + text).split('\n');
    this.rest = lines.pop();
    for (const each of lines) {
      const line = each.endsWith('\r') ? each.slice(0, -1) : each;
      if (line === '') {
        if (this.data.length > 0) this.onEvent(this.event || 'message', this.data.join('\n'));
        this.event = '';
        this.data = [];
        continue;
      }
      const at = line.indexOf(':');
      const field = at < 0 ? line : line.slice(0, at);
      const value = at < 0 ? '' : line.slice(at + 1).replace(/^ /, '');
      if (field === 'event') this.event = value;
      else if (field === 'data') this.data.push(value);
    }
  }
}
