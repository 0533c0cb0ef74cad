// Draws each chart from the specification next to it. No expression is evaluated as code, so that the page's policy may
// forbid that.
for (const place of document.querySelectorAll("[data-chart]")) {
  const spec = JSON.parse(document.getElementById(place.dataset.chart).textContent);
  spec.description = place.getAttribute("aria-label");
  vegaEmbed(place, spec, {
    renderer: "svg",
    ast: true,
    actions: false,
    defaultStyle: false,
    tooltip: { disableDefaultStyle: true },
  }).then(() => place.setAttribute("data-drawn", ""));
}
