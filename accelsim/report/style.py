"""The report page's style sheet."""

from typing import Final

#: Light and dark, phone and desk, screen and paper.
STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2430; --paper: #ffffff; --line: #d8dde5;
  --soft: #5b6677; --card: #f6f8fa; --shade: rgb(0 0 0 / 0.22); }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ee; --paper: #14181f; --line: #343c49;
  --soft: #9aa5b5; --card: #1b212b; --shade: rgb(0 0 0 / 0.75); }
  figure img { filter: invert(0.92) hue-rotate(180deg) brightness(1.15); } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1.2rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; } h2 { margin-top: 2.6rem; font-size: 1.25rem; }
h3 { margin: 1.6rem 0 0.4rem; font-size: 1rem; }
nav { display: flex; flex-wrap: wrap; gap: 0.3rem 1rem; } nav a { color: inherit; }
p.about, figcaption { color: var(--soft); }
.wide { overflow-x: auto; background:
  linear-gradient(to right, var(--paper) 30%, transparent) left / 2rem 100% no-repeat local,
  linear-gradient(to left, var(--paper) 30%, transparent) right / 2rem 100% no-repeat local,
  linear-gradient(to right, var(--shade), transparent) left / 0.7rem 100% no-repeat scroll,
  linear-gradient(to left, var(--shade), transparent) right / 0.7rem 100% no-repeat scroll; }
table { border-collapse: collapse; font-size: 0.9rem; }
th, td { padding: 0.25rem 0.7rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; font-variant-numeric: tabular-nums; }
th { border-bottom-width: 2px; vertical-align: bottom; white-space: normal; }
th.left, td.left { text-align: left; }
.figures { display: grid; gap: 0 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)); }
figure { margin: 0.8rem 0; min-width: 0; } figure.broad { grid-column: 1 / -1; }
figure img { display: block; max-width: 100%; height: auto; }
details { margin: 0.6rem 0; } summary { cursor: pointer; padding: 0.2rem 0; }
.numbers { display: flex; flex-wrap: wrap; gap: 0.8rem; padding: 0; list-style: none; }
.numbers li { padding: 0.7rem 1rem; background: var(--card); border-radius: 0.5rem; }
.numbers b { display: block; font-size: 1.4rem; }
@media (max-width: 40rem) { body { padding: 1rem 0.9rem; } th, td { padding: 0.25rem 0.45rem; }
  td.left { white-space: normal; } }
@media print { :root { color-scheme: light; --ink: #000; --paper: #fff; --line: #bbb;
  --soft: #444; --card: #fff; } figure img { filter: none; min-width: 0 !important; }
  body { max-width: none; padding: 0; font-size: 9pt; } nav { display: none; }
  .figures { display: block; }
  figure { display: inline-block; max-width: 49%; vertical-align: top; }
  figure.broad { display: block; max-width: 100%; }
  details::details-content { content-visibility: visible; block-size: auto; }
  figure, tr, .numbers li { break-inside: avoid; } h2, h3 { break-after: avoid; }
  .wide { overflow: visible; background: none; } table { font-size: 7.5pt; }
  th, td { padding: 0.1rem 0.35rem; white-space: normal; } thead { display: table-header-group; } }
"""
