"""How the app looks: colours that keep WCAG AA's contrast on white, and the few rules Streamlit's theme cannot say."""

BLUE, INK, QUIET, LINE, PALE = "#0b5394", "#16202b", "#4a5866", "#c9d1d9", "#f3f6f9"
ALERT, ALERT_PALE = "#9c2f00", "#fdf0e8"
SEVERE, SEVERE_PALE = "#a3122a", "#fdecee"
GOOD = "#1c6437"

THEME = {
    "base": "light",
    "primaryColor": BLUE,
    "backgroundColor": "#ffffff",
    "secondaryBackgroundColor": PALE,
    "textColor": INK,
    "linkColor": BLUE,
    "baseRadius": "small",
}
"""Streamlit's own theme options."""

CSS = f"""<style>
.block-container {{ max-width: 1280px; padding: 2.6rem 1.6rem 4rem; }}
[data-testid="stHeader"] {{ background: transparent; height: 2.6rem; min-height: 2.6rem; }}
[data-testid="stMain"] [data-testid="stVerticalBlock"] {{ gap: .7rem; }}
[data-testid="stCaptionContainer"], [data-testid="stCaptionContainer"] * {{ color: {QUIET} !important; opacity: 1; }}
.hx-head {{ display: flex; flex-wrap: wrap; align-items: baseline; gap: 0 .9rem; margin-bottom: .45rem; }}
.hx-banner {{ border-left: 5px solid {ALERT}; background: {ALERT_PALE}; color: {INK}; padding: .5rem .9rem;
  font-size: .92rem; border-radius: 3px; }}
.hx-title {{ font-size: 1.55rem; font-weight: 650; margin: 0; color: {INK}; line-height: 1.25; padding: 0; }}
.hx-sub {{ color: {QUIET}; font-size: .95rem; margin: .1rem 0 0; }}
.hx-h2 {{ font-size: 1.15rem; font-weight: 650; margin: .6rem 0 .3rem; padding: 0; color: {INK}; }}
.hx-verdict {{ font-size: 1.15rem; line-height: 1.45; border: 1px solid {LINE}; border-left: 5px solid {BLUE};
  border-radius: 3px; padding: .6rem .9rem; background: #fff; color: {INK}; }}
.hx-verdict.alert {{ border-left-color: {ALERT}; }}
.hx-verdict.good {{ border-left-color: {GOOD}; }}
.hx-verdict.withheld {{ border-left-color: {SEVERE}; background: {SEVERE_PALE}; }}
.hx-verdict p {{ margin: 0; }} .hx-verdict .more {{ color: {QUIET}; font-size: .92rem; }}
.hx-quality {{ border: 1px solid {ALERT}; background: {ALERT_PALE}; border-radius: 3px; padding: .55rem .9rem;
  color: {INK}; }}
.hx-quality.severe {{ border-color: {SEVERE}; background: {SEVERE_PALE}; }}
.hx-quality h2 {{ font-size: 1rem; font-weight: 650; margin: 0 0 .2rem; padding: 0; }}
.hx-quality ul {{ margin: 0; padding-left: 1.2rem; font-size: .95rem; }}
.hx-quality li {{ margin: .1rem 0; }}
.hx-table {{ width: 100%; border-collapse: collapse; font-size: .96rem; color: {INK}; }}
.hx-table th, .hx-table td {{ padding: .42rem .5rem; border-bottom: 1px solid {LINE}; text-align: left;
  vertical-align: top; font-weight: 400; }}
.hx-table thead th {{ color: {QUIET}; font-size: .85rem; font-weight: 600; }}
.hx-table tbody th {{ font-weight: 600; }}
.hx-table .code {{ color: {QUIET}; font-weight: 400; font-size: .85rem; white-space: nowrap; }}
.hx-table .number {{ white-space: nowrap; font-variant-numeric: tabular-nums; }}
.hx-table .low, .hx-table .high, .hx-table .yes {{ color: {ALERT}; font-weight: 650; }}
.hx-table .ok {{ color: {GOOD}; }} .hx-table .none, .hx-table .no {{ color: {QUIET}; }}
.hx-bar {{ position: relative; height: 1rem; min-width: 90px; background: #e6ebf0; border-radius: 2px;
  margin-top: .2rem; }}
.hx-bar .fill {{ position: absolute; inset: 0 auto 0 0; background: #5b7083; border-radius: 2px; }}
.hx-bar.yes .fill {{ background: {ALERT}; }} .hx-bar.good .fill {{ background: {GOOD}; }}
.hx-bar .tick {{ position: absolute; top: -3px; bottom: -3px; width: 2px; background: {INK}; }}
.hx-paper {{ overflow-x: auto; border: 1px solid {LINE}; border-radius: 3px; background: #fff; }}
.hx-paper img {{ display: block; max-width: none; }}
.hx-paper.fit img {{ width: 100%; height: auto; min-width: 780px; }}
.hx-sideways {{ display: none; }}
.hx-report p {{ margin: 0 0 .7rem; max-width: 75ch; line-height: 1.5; color: {INK}; }}
.hx-key {{ color: {QUIET}; font-size: .88rem; margin: .15rem 0 0; }}
.hx-key b {{ display: inline-block; width: .8rem; height: .8rem; vertical-align: -1px; margin-right: .3rem; }}
.hx-sent {{ white-space: pre-wrap; border: 1px solid {LINE}; background: {PALE}; padding: .7rem; font-size: .85rem;
  max-height: 340px; overflow: auto; border-radius: 3px; color: {INK}; }}
.hx-hidden {{ position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }}
:is(button, a, input, textarea, select, summary, [tabindex="0"], [role="tab"], [role="radio"]):focus-visible {{
  outline: 3px solid {BLUE} !important; outline-offset: 2px !important; }}
[data-testid="stFileUploaderDropzone"]:has(:focus-visible) {{ outline: 3px solid {BLUE}; outline-offset: 2px; }}
@media (max-width: 640px) {{
  .block-container {{ padding: 3rem .8rem 3rem; }}
  .hx-title {{ font-size: 1.3rem; }}
  .st-key-paper > :has(> .st-key-paper-controls), .st-key-paper > .st-key-paper-controls {{ order: 1; }}
  .hx-paper.fit + .hx-sideways {{ display: block; }}
  [class*="st-key-zoom-"] {{ overflow-x: auto; }}
  [class*="st-key-zoom-"] > div {{ min-width: 780px; }}
  .hx-table th, .hx-table td {{ padding: .4rem .3rem; }}
}}
</style>"""
