() => {
  // What a person would find wrong with the page, as lists of texts.
  const found = { charts: 0, empty: [], overlapping: [], outside: [], wideTables: [] };
  const shown = (one) => {
    const box = one.getBoundingClientRect();
    const style = getComputedStyle(one);
    return box.width > 0 && box.height > 0 && style.visibility !== "hidden" && style.opacity !== "0";
  };
  for (const chart of document.querySelectorAll(".chart")) {
    found.charts += 1;
    const drawn = [...chart.querySelectorAll(".trace path, .trace line, .points path, .fills path")];
    if (!drawn.some(shown)) found.empty.push(chart.id);
    const frame = chart.getBoundingClientRect();
    const texts = [...chart.querySelectorAll("text")].filter((one) => shown(one) && one.textContent.trim());
    if (texts.length < 4) found.empty.push(chart.id + ": texts");
    const boxes = texts.map((one) => one.getBoundingClientRect());
    texts.forEach((one, first) => {
      const a = boxes[first];
      if (a.left < frame.left - 1 || a.right > frame.right + 1 || a.top < frame.top - 1 || a.bottom > frame.bottom + 1) {
        found.outside.push(chart.id + ": " + one.textContent);
      }
      for (let second = first + 1; second < texts.length; second += 1) {
        const b = boxes[second];
        const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        // Lines of one text, and the space around letters, touch without harm.
        if (wide > 2 && high > 3) found.overlapping.push(chart.id + ": " + one.textContent + " / " + texts[second].textContent);
      }
    });
  }
  for (const one of document.querySelectorAll("h1, h2, th, li, p")) {
    if (!one.textContent.trim() && one.tagName !== "TH") found.empty.push(one.outerHTML.slice(0, 80));
  }
  for (const one of document.querySelectorAll("table")) {
    if (!one.querySelector("tbody tr")) found.empty.push("table: " + one.textContent.slice(0, 80));
    const frame = one.closest(".wide");
    if (frame.scrollWidth > frame.clientWidth + 1) found.wideTables.push(one.textContent.slice(0, 80));
  }
  found.pageOverflows = document.documentElement.scrollWidth > document.documentElement.clientWidth;
  return found;
}
