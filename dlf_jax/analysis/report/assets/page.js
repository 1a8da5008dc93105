// What the page does beside being read: sort tables (with sortable.min.js), tell the value under the pointer,
// choose one of several parts, mark the section in the contents, and fold everything out for print.
'use strict';

document.documentElement.classList.add('scripted');

// Sorting: a button in each head, which keys reach; sortable.min.js listens to its clicks.
for (const head of document.querySelectorAll('table.sortable thead th')) {
  const button = document.createElement('button');
  button.type = 'button';
  button.append(...head.childNodes);
  head.append(button);
}

// A region that does not scroll need not be reached by keys.
function markWide() {
  for (const wide of document.querySelectorAll('.wide')) {
    if (wide.scrollWidth > wide.clientWidth) wide.tabIndex = 0;
    else wide.removeAttribute('tabindex');
  }
}
markWide();
addEventListener('resize', markWide);

// Tips: the title of the nearest point of a chart, for the pointer and for the arrow keys.
const tip = document.createElement('div');
tip.className = 'tip';
tip.hidden = true;
document.body.append(tip);
let here = null;

function leave() {
  if (here) here.classList.remove('here');
  here = null;
  tip.hidden = true;
}

function show(point) {
  if (point === here) return;
  leave();
  here = point;
  point.classList.add('here');
  tip.textContent = point.dataset.tip;
  tip.hidden = false;
  const box = point.getBoundingClientRect();
  const left = box.left + Math.min(box.width, 200) / 2 - tip.offsetWidth / 2;
  const right = document.documentElement.clientWidth - tip.offsetWidth - 8;
  tip.style.left = `${scrollX + Math.max(8, Math.min(left, right))}px`;
  const above = box.top - tip.offsetHeight - 8;
  tip.style.top = `${scrollY + (above > 0 ? above : box.bottom + 8)}px`;
}

for (const chart of document.querySelectorAll('svg.chart')) {
  const points = [...chart.querySelectorAll('.point')];
  if (!points.length) continue;
  for (const point of points) {
    const title = point.querySelector('title');
    point.dataset.tip = title.textContent;
    title.remove();
  }
  const middle = (point) => {
    const box = point.getBoundingClientRect();
    return [box.left + box.width / 2, box.top + box.height / 2];
  };
  chart.addEventListener('pointermove', (event) => {
    const bars = points[0].tagName === 'g';
    let nearest = null;
    let least = 60;
    for (const point of points) {
      const [x, y] = middle(point);
      const distance = bars ? Math.abs(y - event.clientY) : Math.hypot(x - event.clientX, (y - event.clientY) / 2);
      if (distance < least) [nearest, least] = [point, distance];
    }
    if (nearest) show(nearest);
    else leave();
  });
  chart.addEventListener('pointerleave', leave);
  chart.addEventListener('blur', leave);
  chart.tabIndex = 0;
  chart.addEventListener('keydown', (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === 'Escape') leave();
    if (!step) return;
    event.preventDefault();
    const place = points.indexOf(here);
    show(points[place < 0 ? 0 : (place + step + points.length) % points.length]);
  });
}

// A choice of one of several parts, which are all to be folded out where there is no script.
for (const [number, group] of document.querySelectorAll('.choose').entries()) {
  const parts = [...group.querySelectorAll(':scope > details')];
  const select = document.createElement('select');
  select.id = `choice-${number}`;
  for (const [place, part] of parts.entries()) {
    part.open = true;
    select.add(new Option(part.querySelector('summary').textContent, String(place)));
  }
  const label = document.createElement('label');
  label.htmlFor = select.id;
  label.append(group.dataset.label);
  const choice = document.createElement('p');
  choice.className = 'choice';
  choice.append(label, select);
  group.prepend(choice);
  group.classList.add('chosen');
  const choose = () => {
    for (const [place, part] of parts.entries()) part.hidden = place !== Number(select.value);
    markWide();
  };
  select.addEventListener('change', choose);
  choose();
}

// The section that is being read.
const links = new Map([...document.querySelectorAll('nav.contents a')].map((a) => [a.hash.slice(1), a]));
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    for (const link of links.values()) link.removeAttribute('aria-current');
    links.get(entry.target.id).setAttribute('aria-current', 'true');
  }
}, { rootMargin: '-10% 0px -80% 0px' });
for (const id of links.keys()) {
  const section = document.getElementById(id);
  if (section) watcher.observe(section);
}

// On paper nothing can be folded out.
let closed = [];
addEventListener('beforeprint', () => {
  closed = [...document.querySelectorAll('details:not([open])')];
  for (const one of closed) one.open = true;
});
addEventListener('afterprint', () => {
  for (const one of closed) one.open = false;
});
