'use strict';
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
