// The page of `infeed serve`: asks for the token, follows the daemon's statuses, shows them, turns its knobs.
//
// `overview`, `charts`, `jobs`, `mtas` and `refusals` each show a part of a status; `api` talks to the
// daemon; `dom` has what puts text into the page. What needs the reader's ear goes to `#said` (what came of
// an action), `#banner` (what stands still) and `#link` (the connection), when it changes.

import { call, follow, token } from './api.js';
import { Charts } from './charts.js';
import { ask, wireClosers } from './dialogs.js';
import { $, setAttribute, setText, show } from './dom.js';
import * as format from './format.js';
import { Jobs } from './jobs.js';
import { Mtas } from './mtas.js';
import { Overview } from './overview.js';
import { Refusals } from './refusals.js';
import { Series } from './series.js';

/** A status comes every second, of a large spool more seldom: one that is older is marked. */
const STALE_MS_MIN = 5_000;
const STALE_INTERVALS = 3;

let following = null;
let parts = null;
let latest = null;

/** Runs an action, and says what came of it: `done`, or what `doing` gives. */
async function act(doing, done) {
  try {
    const given = await doing();
    say(typeof given === 'string' ? given : done ?? '', false);
  } catch (error) {
    if (error.status === 401) refused(error.message);
    else say(error.message, true);
  }
}

function say(text, bad) {
  const said = $('said');
  said.classList.toggle('error', bad);
  // with its time, so that the same again is read out again
  setText(said, text === '' ? '' : `${bad ? 'Not done: ' : ''}${text} (${format.time(Date.now())})`);
}

function link(state, text) {
  setAttribute($('link'), 'data-state', state);
  setText($('link'), text);
}

function start() {
  show($('login'), false);
  link('connecting', 'Connecting…');
  following = follow({
    onStatus(status) {
      show($('live'), true);
      show($('master'), true);
      if (!parts) {
        const series = new Series();
        parts = { series, charts: new Charts($('charts'), series), shown: [new Overview(), new Jobs(act), new Mtas(act), new Refusals()] };
        $('main').focus({ preventScroll: true });
      }
      const at = Date.now();
      latest = { status, at, interval: latest && !latest.lost ? Math.max(0, at - latest.at) : 0, lost: false };
      parts.series.add(status, latest.at / 1000);
      parts.shown.forEach((part) => part.update(status));
      parts.charts.update();
      link('live', 'Live');
      stale();
    },
    onTrouble(text) {
      link('lost', `The daemon can’t tell how it goes: ${text}`);
      stale();
    },
    onLost(why) {
      parts?.series.interrupt();
      if (latest) latest.lost = true;
      const since = latest ? ` The figures are of ${format.time(latest.at)}.` : '';
      link('lost', `Connection lost: ${why}.${since} Trying again.`);
      stale();
    },
    onRefused: refused,
  });
}

/** Old figures are called so. */
function stale() {
  const old =
    latest !== null && ($('link').dataset.state !== 'live' || Date.now() - latest.at > Math.max(STALE_MS_MIN, STALE_INTERVALS * latest.interval));
  setAttribute($('live'), 'data-stale', old ? 'yes' : null);
  show($('stale'), old);
  if (old) setText($('stale-since'), format.time(latest.at));
}

function refused(text) {
  token.forget();
  leave();
  setText($('login-error'), `The daemon refuses: ${text}`);
}

/** Back to the question for the token. */
function leave() {
  following?.stop();
  following = null;
  for (const dialog of document.querySelectorAll('dialog[open]')) dialog.close();
  show($('live'), false);
  show($('master'), false);
  show($('login'), true);
  link('out', 'Not connected');
  setText($('login-error'), '');
  $('token').focus();
}

function wire() {
  wireClosers();
  $('login-form').addEventListener('submit', (event) => {
    event.preventDefault();
    token.set($('token').value.trim());
    $('token').value = '';
    start();
  });
  $('sign-out').addEventListener('click', () => {
    token.forget();
    // nothing of what was shown stays in memory
    location.reload();
  });
  $('pause-all').addEventListener('click', () =>
    act(async () => {
      const { went } = await call('POST', 'pause', { reason: 'paused on the page' });
      const each = went.map(({ job, accepted, in_flight, waiting }) => `${job}: ${format.count(accepted)} accepted, ${format.count(in_flight)} in flight, ${format.count(waiting)} waiting`);
      return `Everything is paused. ${each.join('; ')}`;
    }),
  );
  $('resume-all').addEventListener('click', async () => {
    const { standstill, jobs, backlog } = latest.status;
    const answer = await ask({
      title: 'Resume all?',
      text: [`It was paused: ${standstill?.reason ?? 'for no reason that is known'}.`, `${format.count(jobs.active)} active jobs go on at once, with ${format.count(backlog.recipients)} recipients.`],
      yes: 'Resume all',
      no: 'Leave it paused',
    });
    if (answer) await act(() => call('POST', 'resume', {}), 'Everything goes on.');
  });
  setInterval(stale, 1_000);
}

wire();
if (token.get()) start();
else leave();
