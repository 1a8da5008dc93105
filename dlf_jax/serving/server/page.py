"""The page at `/`: a form of the model's columns that scores a row; it asks `/v1/schema` and `/v1/score`."""

from __future__ import annotations

# Nothing but what this server sends, and no script or style in the page itself.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)

HTML = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>dlf_jax: score a row</title>
<link rel="stylesheet" href="/page.css">
</head>
<body>
<main>
<h1>Score a row</h1>
<p id="model">Asking for the columns ...</p>
<form id="form">
<p id="token-line" hidden><label for="token">Bearer token</label>
<input id="token" type="password" autocomplete="off"></p>
<div id="fields"></div>
<p><button type="submit">Score</button><small>An empty field is a missing value.</small></p>
</form>
<p id="answer" role="status" aria-live="polite"></p>
<ul id="notes"></ul>
</main>
<script src="/page.js"></script>
</body>
</html>
"""

STYLE = """:root { color-scheme: light dark; --text: #1b2430; --soft: #5a6675; --page: #f4f6f8; --card: #fff; --line: #8a96a3;
  --main: #1a5fb4; --on-main: #fff; --warn: #9a4a00; --warn-back: #fff3e6; --wrong: #b00020; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6eaef; --soft: #a3afbc; --page: #14181d; --card: #1e242b; --line: #6b7885; --main: #8ab8f5;
    --on-main: #10151b; --warn: #ffb86b; --warn-back: #3a2a17; --wrong: #ff8a8a; }
}
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0; color: var(--text); background: var(--page); }
main { max-width: 46rem; margin: 2rem auto; padding: 1.5rem 2rem 2rem; background: var(--card); border-radius: 10px; }
h1 { margin: 0; font-size: 1.6rem; }
#model { margin: 0 0 1.2rem; color: var(--soft); overflow-wrap: anywhere; }
#fields p, #token-line:not([hidden]) { display: grid; grid-template-columns: 11rem 1fr 11rem; gap: .2rem 1rem;
  align-items: center; margin: .5rem 0; }
label { font-weight: 600; overflow-wrap: anywhere; }
input { width: 100%; min-width: 0; padding: .35rem .5rem; font: inherit; color: inherit; background: transparent;
  border: 1px solid var(--line); border-radius: 6px; }
small { color: var(--soft); }
button { padding: .45rem 1.4rem; margin-right: .8rem; font: inherit; font-weight: 600; color: var(--on-main);
  background: var(--main); border: 0; border-radius: 6px; cursor: pointer; }
:focus-visible { outline: 3px solid var(--main); outline-offset: 2px; }
#answer { min-height: 2.2rem; margin: 1.2rem 0 .4rem; font-size: 1.4rem; font-weight: 600; overflow-wrap: anywhere; }
#notes { margin: 0; padding-left: 1.2rem; color: var(--soft); overflow-wrap: anywhere; }
.unknown input { border-color: var(--warn); background: var(--warn-back); }
#answer.wrong { color: var(--wrong); font-size: 1.1rem; }
@media (max-width: 40rem) {
  main { margin: 0; padding: 1rem; min-height: 100vh; border-radius: 0; }
  #fields p, #token-line:not([hidden]) { grid-template-columns: 1fr auto; }
  #fields label, #token-line label { grid-column: 1; }
  #fields small { grid-column: 2; grid-row: 1; }
  #fields input, #token-line input { grid-column: 1 / -1; }
}
"""

SCRIPT = """'use strict';
const at = (id) => document.getElementById(id);
let fields = [];

function headers() {
  const token = at('token').value;
  return {'content-type': 'application/json', ...(token ? {authorization: 'Bearer ' + token} : {})};
}

async function ask(path, options) {
  const response = await fetch(path, {headers: headers(), ...options});
  const found = await response.json();
  if (response.status === 401) at('token-line').hidden = false;
  if (!response.ok) throw new Error(found.error);
  return found;
}

function tell(text, wrong) {
  at('answer').textContent = text;
  at('answer').className = wrong ? 'wrong' : '';
}

function line(field) {
  const paragraph = document.createElement('p');
  const label = document.createElement('label');
  const input = document.createElement('input');
  const kind = document.createElement('small');
  label.textContent = field.name;
  label.htmlFor = input.id = 'field-' + fields.indexOf(field);
  input.type = 'text';
  const several = 'several values, between ' + (field.separator || ',');
  kind.textContent = field.number ? 'number' : field.kind === 'multi-valued' ? several : 'text';
  paragraph.append(label, input, kind);
  return paragraph;
}

async function showFields() {
  try {
    const schema = await ask('/v1/schema');
    fields = schema.fields;
    at('model').textContent = schema.model + ', version ' + schema.version;
    at('fields').replaceChildren(...fields.map(line));
    tell('', false);
  } catch (error) {
    tell(error.message, true);
  }
}

function value(field, text) {
  if (text === '') return null;
  if (field.kind === 'multi-valued') return text.split(field.separator || ',').map((one) => one.trim());
  return text;
}

async function score(event) {
  event.preventDefault();
  at('notes').replaceChildren();
  if (!fields.length) return showFields();
  const inputs = [...at('fields').querySelectorAll('input')];
  // Pairs, so that a column may have any name.
  const row = Object.fromEntries(fields.map((field, i) => [field.name, value(field, inputs[i].value)]));
  try {
    const found = await ask('/v1/score', {method: 'POST', body: JSON.stringify({rows: [row]})});
    tell('Probability of a click: ' + found.probabilities[0].toPrecision(4), false);
    const notes = [
      ...found.unknown_fields[0].map((name) => name + ': a value that training did not have'),
      ...found.missing_fields[0].map((name) => name + ': missing'),
    ];
    at('notes').append(...notes.map((note) => {
      const item = document.createElement('li');
      item.textContent = note;
      return item;
    }));
    fields.forEach((field, i) => {
      inputs[i].parentElement.className = found.unknown_fields[0].includes(field.name) ? 'unknown' : '';
    });
  } catch (error) {
    tell(error.message, true);
  }
}

at('form').addEventListener('submit', score);
showFields();
"""
