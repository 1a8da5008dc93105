// Runs the page's script on a page of a few plain objects, fills the form in and submits it.
// node page_in_node.js ADDRESS ROW TOKEN; prints what the page then shows.
const [address, row, token] = process.argv.slice(2);

class Element {
  constructor(tag) {
    Object.assign(this, {tag, children: [], value: '', textContent: '', className: '', hidden: true});
    this.listeners = {};
  }
  append(...more) {
    for (const child of more) child.parentElement = this;
    this.children.push(...more);
  }
  replaceChildren(...more) {
    this.children = [];
    this.append(...more);
  }
  querySelectorAll(tag) {
    return this.children.flatMap((child) => [...(child.tag === tag ? [child] : []), ...child.querySelectorAll(tag)]);
  }
  addEventListener(name, act) {
    this.listeners[name] = act;
  }
}

const known = Object.fromEntries(
  ['form', 'fields', 'answer', 'notes', 'token', 'model', 'token-line'].map((id) => [id, new Element(id)]));
globalThis.document = {getElementById: (id) => known[id], createElement: (tag) => new Element(tag)};
const plain = globalThis.fetch;
globalThis.fetch = (path, options) => plain(address + path, options);

const shown = () => known.fields.children.map((line) => line.children[0].textContent);
const until = async (ready) => {
  for (let i = 0; i < 200 && !ready(); i++) await new Promise((go) => setTimeout(go, 20));
};
const submit = () => known.form.listeners.submit({preventDefault() {}});

(async () => {
  (0, eval)(await (await plain(address + '/page.js')).text());
  await until(() => shown().length || known.answer.textContent);
  const first = {answer: known.answer.textContent, asks: !known['token-line'].hidden};
  known.token.value = token || '';
  if (!shown().length) await submit();
  const values = JSON.parse(row);
  known.fields.querySelectorAll('input').forEach((input, i) => { input.value = values[shown()[i]] ?? ''; });
  await submit();
  console.log(JSON.stringify({
    first,
    model: known.model.textContent,
    fields: shown(),
    answer: known.answer.textContent,
    wrong: known.answer.className,
    notes: known.notes.children.map((item) => item.textContent),
    marked: known.fields.children.filter((line) => line.className === 'unknown').map((l) => l.children[0].textContent),
  }));
})();
