"""The script of a drawing's page: zoom, move, open what is drawn as a number, colours. It needs no network and no other
file; without it, the page still shows the whole drawing."""

SCRIPT = """
(() => {
  'use strict';
  const main = document.querySelector('main');
  const svg = main.querySelector('svg');
  const closed = {x: 0, y: 0, w: svg.viewBox.baseVal.width, h: svg.viewBox.baseVal.height};
  let whole = {...closed};  // with the parts that are open
  let box = {...closed};
  document.documentElement.classList.add('script');
  svg.removeAttribute('width');
  svg.removeAttribute('height');
  svg.setAttribute('preserveAspectRatio', 'xMidYMin meet');

  const show = () => svg.setAttribute('viewBox', `${box.x} ${box.y} ${box.w} ${box.h}`);
  const scale = () => Math.min(main.clientWidth / box.w, main.clientHeight / box.h);
  const fill = width => {  // the page's width, or less, from the top: so texts are large enough to read
    const w = Math.max(width, main.clientWidth);
    box = {x: (width - w) / 2, y: 0, w, h: w * main.clientHeight / main.clientWidth};
    show();
  };
  const fit = () => { box = {...whole}; show(); };
  const begin = () => {  // the whole drawing, if its texts are large enough then
    box = {...whole};
    if (scale() < 0.8 || scale() > 1) fill(closed.w); else show();
  };
  const zoom = (by, px = main.clientWidth / 2, py = main.clientHeight / 2) => {
    const now = scale();
    const next = Math.min(8, Math.max(0.05, now * by));
    const left = (main.clientWidth - box.w * now) / 2;
    const x = box.x + (px - left) / now, y = box.y + py / now;
    const w = main.clientWidth / next, h = main.clientHeight / next;
    box = {x: x - px / next, y: y - py / next, w, h};
    show();
  };
  const move = (dx, dy) => { box.x -= dx / scale(); box.y -= dy / scale(); show(); };

  main.addEventListener('wheel', event => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const place = main.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY / 300), event.clientX - place.left, event.clientY - place.top);
  }, {passive: false});
  const held = new Map();
  let dragged = false;
  main.addEventListener('pointerdown', event => {
    if (event.button !== 0) return;
    held.set(event.pointerId, event);
    dragged = false;
  });
  main.addEventListener('pointermove', event => {
    const before = held.get(event.pointerId);
    if (!before) return;
    const dx = event.clientX - before.clientX, dy = event.clientY - before.clientY;
    if (!dragged && Math.hypot(dx, dy) < 4) return;
    if (!dragged) main.setPointerCapture(event.pointerId);
    dragged = true;
    if (held.size === 2) {  // two fingers
      const other = [...held.values()].find(one => one.pointerId !== event.pointerId);
      const far = one => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
      const place = main.getBoundingClientRect();
      zoom(far(event) / Math.max(1, far(before)), other.clientX - place.left, other.clientY - place.top);
    } else move(dx, dy);
    held.set(event.pointerId, event);
  });
  for (const kind of ['pointerup', 'pointercancel']) {
    main.addEventListener(kind, event => held.delete(event.pointerId));
  }
  main.addEventListener('keydown', event => {
    const step = {ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60]}[event.key];
    if (step) move(...step);
    else if (event.key === '+' || event.key === '=') zoom(1.25);
    else if (event.key === '-') zoom(0.8);
    else if (event.key === '0') fit();
    else if (event.key === '1') fill(closed.w);
    else return;
    event.preventDefault();
  });

  const details = name => document.querySelector(`template[data-details="${CSS.escape(name)}"]`);
  const name_of = element => element.getAttribute('data-pods');
  const close = name => {
    for (const one of svg.querySelectorAll('.details')) if (one.getAttribute('data-details') === name) one.remove();
    for (const one of svg.querySelectorAll('[data-pods]')) {
      if (name_of(one) === name) one.setAttribute('aria-expanded', 'false');
    }
    whole = {...closed};
    for (const one of svg.querySelectorAll('.details')) reach(one);
  };
  const reach = group => {  // make the whole drawing as large as its parts; returns where this one is
    const [x, y] = group.getAttribute('data-place').split(' ').map(Number), area = group.getBBox();
    const place = {x: x + area.x, y: y + area.y, right: x + area.x + area.width, low: y + area.y + area.height};
    whole.w = Math.max(whole.w, place.right + 24);
    whole.h = Math.max(whole.h, place.low + 24);
    return place;
  };
  const open = element => {
    const name = name_of(element), template = details(name);
    const around = element.closest('.details') || svg;
    const node = [...around.querySelectorAll('[data-machine]')].find(one => one.getAttribute('data-machine') === name);
    const area = (node || element).getBBox();
    const group = document.createElementNS('http://www.w3.org/2000/svg', 'g');
    group.setAttribute('class', 'details');
    group.setAttribute('data-details', name);
    group.append(...template.content.firstElementChild.cloneNode(true).childNodes);
    const inner = around === svg ? [0, 0] : around.getAttribute('data-place').split(' ').map(Number);
    const place = [inner[0] + area.x - Number(template.dataset.x), inner[1] + area.y - Number(template.dataset.y)];
    group.setAttribute('data-place', place.join(' '));
    group.setAttribute('transform', `translate(${place.join(' ')})`);
    svg.append(group);
    const now = reach(group);
    if (now.right > box.x + box.w || now.low > box.y + box.h || now.y < box.y) {
      box.x = now.x - 24;
      box.y = now.y - 24;
      show();
    }
    element.setAttribute('aria-expanded', 'true');
    prepare(group);
    group.querySelector('.close')?.focus({preventScroll: true});
  };
  const toggle = element => {
    const name = name_of(element);
    element.getAttribute('aria-expanded') === 'true' ? close(name) : open(element);
  };
  const press = (element, work) => {
    element.setAttribute('tabindex', '0');
    element.setAttribute('role', 'button');
    element.addEventListener('click', () => { if (!dragged) work(); });
    element.addEventListener('keydown', event => {
      if (event.key !== 'Enter' && event.key !== ' ') return;
      event.preventDefault();
      event.stopPropagation();
      work();
    });
  };
  const prepare = within => {
    for (const one of within.querySelectorAll('[data-pods]')) {
      if (!details(name_of(one))) continue;
      one.classList.add('opens');
      one.setAttribute('aria-expanded', 'false');
      press(one, () => toggle(one));
    }
    for (const one of within.querySelectorAll('.close')) {
      press(one, () => close(one.closest('.details').getAttribute('data-details')));
    }
  };
  prepare(svg);

  const colours = ['auto', 'light', 'dark'];
  const work = {
    in: () => zoom(1.25), out: () => zoom(0.8), fit, width: () => fill(closed.w),
    close: () => { for (const one of svg.querySelectorAll('.details')) close(one.getAttribute('data-details')); },
    colours: button => {
      const root = document.documentElement;
      const next = colours[(colours.indexOf(root.dataset.colours || 'auto') + 1) % 3];
      root.dataset.colours = next;
      button.textContent = `colours: ${next}`;
    },
  };
  for (const button of document.querySelectorAll('button[data-work]')) {
    button.addEventListener('click', () => work[button.dataset.work](button));
    if (button.dataset.work === 'close') button.hidden = !document.querySelector('template[data-details]');
  }
  let before;  // the view on the screen, while the page is printed
  addEventListener('beforeprint', () => { before = box; fit(); });
  addEventListener('afterprint', () => { box = before || box; before = undefined; show(); });
  addEventListener('resize', () => { if (!before) begin(); });
  begin();
  const wanted = decodeURIComponent(location.hash.slice(1));  // page.html#node7 opens the pods of node7
  for (const one of svg.querySelectorAll('[data-pods].opens')) if (name_of(one) === wanted) open(one);
})();
""".strip()
