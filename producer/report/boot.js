"use strict";
(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const themed = (layout, isDark) => {
    const ink = isDark ? "#ececec" : "#1a1a1a";
    const line = isDark ? "#484848" : "#d5d5d5";
    const made = structuredClone(layout);
    made.font = { ...made.font, color: ink };
    made.paper_bgcolor = made.plot_bgcolor = "rgba(0,0,0,0)";
    // So that no grid line goes through a label.
    made.annotations = (made.annotations || []).map((one) => (
      { ...one, bgcolor: isDark ? "#181818" : "#ffffff" }));
    made.hoverlabel = { bgcolor: isDark ? "#303030" : "#ffffff", font: { color: ink } };
    for (const name of Object.keys(made).filter((one) => /^[xy]axis\d*$/.test(one))) {
      made[name] = { ...made[name], gridcolor: line, zerolinecolor: line, linecolor: line };
    }
    return made;
  };
  const config = { responsive: true, displaylogo: false, plotlyServerURL: "",
                   modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
  const draw = (isDark) => charts.forEach((chart, number) => {
    Plotly.react("chart-" + number, chart.data, themed(chart.layout, isDark), config);
  });
  draw(dark.matches);
  dark.addEventListener("change", (event) => draw(event.matches));
  addEventListener("beforeprint", () => draw(false));
  addEventListener("afterprint", () => draw(dark.matches));

  const text = () => JSON.stringify(JSON.parse(document.getElementById("raw").textContent), null, 1);
  const details = document.getElementById("raw-data");
  details.addEventListener("toggle", () => {
    const shown = details.querySelector("pre");
    // As much as a page scrolls well; the file that the button saves has all of it.
    if (details.open && !shown.textContent) shown.textContent = text().slice(0, 500000);
  });
  details.querySelector("button").addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text()], { type: "application/json" }));
    link.download = document.title.replace(/[^\w.-]+/g, "-").slice(0, 80) + ".json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  });
})();
