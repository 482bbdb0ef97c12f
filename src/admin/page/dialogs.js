// Dialogs: one that asks before what can't be undone, and the forms of the knobs.

import { $, setText, show } from './dom.js';

/**
 * Asks; resolves to `null` for no (Escape is no), or `{checked}` for yes. `text` is a list of paragraphs;
 * `choice`, where there is one, a box to tick.
 */
export function ask({ title, text, yes, no, choice, danger }) {
  const dialog = $('confirm');
  setText($('confirm-title'), title);
  $('confirm-text').replaceChildren(
    ...text.map((line) => {
      const p = document.createElement('p');
      p.textContent = line;
      return p;
    }),
  );
  setText($('confirm-no'), no);
  setText($('confirm-yes'), yes);
  $('confirm-yes').className = danger ? 'danger' : '';
  show($('confirm-choice'), Boolean(choice));
  setText($('confirm-box-text'), choice ?? '');
  $('confirm-box').checked = false;
  dialog.returnValue = 'no';
  dialog.showModal();
  // the harmless one is the one that Enter means
  $('confirm-no').focus();
  return new Promise((resolve) => {
    dialog.onclose = () => resolve(dialog.returnValue === 'yes' ? { checked: $('confirm-box').checked } : null);
  });
}

/**
 * Opens a dialog with a form. `submit()` does it and gives what is to be said; what it throws is shown in the
 * form, which stays open.
 */
export function openForm(dialog, error, submit, act) {
  const form = dialog.querySelector('form');
  setText(error, '');
  form.onsubmit = async (event) => {
    event.preventDefault();
    setText(error, '');
    const send = form.querySelector('[type=submit]');
    send.disabled = true;
    try {
      const said = await submit();
      dialog.close();
      act(async () => null, said);
    } catch (problem) {
      setText(error, problem.message);
    } finally {
      send.disabled = false;
    }
  };
  dialog.showModal();
}

/** Buttons that close the dialog which they stand in. */
export function wireClosers() {
  for (const closer of document.querySelectorAll('dialog [data-close]')) {
    closer.addEventListener('click', () => closer.closest('dialog').close());
  }
}
