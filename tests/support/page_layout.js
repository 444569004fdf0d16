"use strict";
// What is wrong with the layout of the page that this runs in, by the boxes of its texts and controls.

// Characters of a word that fits into every column.
const SHORT = 12;

// Texts and controls that are shown: [{ text, node, box }]. What lies left of the page is for screen readers.
function boxes() {
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    const range = document.createRange();
    range.selectNodeContents(node);
    if (!node.data.trim() || !node.parentElement.checkVisibility()) continue;
    for (const box of range.getClientRects()) {
      if (box.right > 0 && box.width > 1 && box.height > 1) found.push({ text: node.data.trim(), node, box });
    }
  }
  for (const node of document.querySelectorAll("input")) {
    const box = node.getBoundingClientRect();
    if (box.width) found.push({ text: `#${node.id}`, node, box });
  }
  return found;
}

function shownTexts() {
  return boxes().length;
}

// Descriptions of the faults; none if all is well.
function layoutFaults() {
  const faults = [];
  const page = document.documentElement;
  if (page.scrollWidth > page.clientWidth) faults.push(`the page is ${page.scrollWidth} wide, not ${page.clientWidth}`);
  for (const element of document.body.querySelectorAll("*")) {
    const { overflowX } = getComputedStyle(element);
    if (element.checkVisibility() && overflowX !== "visible" && element.scrollWidth > element.clientWidth && element.tagName !== "INPUT") {
      faults.push(`${element.tagName}.${element.className} is cut: ${element.scrollWidth} in ${element.clientWidth}`);
    }
  }
  const all = boxes();
  for (const node of new Set(all.map((one) => one.node))) {
    for (const word of (node.data ?? "").matchAll(/[^\s-]+/g)) {
      const range = document.createRange();
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      if (word[0].length <= SHORT && range.getClientRects().length > 1) faults.push(`broken into lines: ${word[0]}`);
    }
  }
  const within = page.clientWidth + 0.5;
  for (const { text, box } of all) {
    if (box.left < -0.5 || box.right > within) faults.push(`outside: ${text.slice(0, 60)} (${box.left} to ${box.right})`);
  }
  all.sort((one, other) => one.box.top - other.box.top);
  all.forEach((one, at) => {
    for (let next = at + 1; next < all.length && all[next].box.top < one.box.bottom - 2; next++) {
      const other = all[next];
      const wide = Math.min(one.box.right, other.box.right) - Math.max(one.box.left, other.box.left);
      if (other.node !== one.node && wide > 1) faults.push(`overlap: ${one.text.slice(0, 60)} and ${other.text.slice(0, 60)}`);
    }
  });
  return faults;
}
