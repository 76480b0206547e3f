"""What all pages have in common: colours, fonts, players, notices."""

from __future__ import annotations

import gradio as gr

from genrepro.core.errors import PipelineError

FONTS = ["system-ui", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif"]  # nothing to download
LOOK = {
    "theme": gr.themes.Soft(
        primary_hue="blue",
        neutral_hue="slate",
        radius_size="sm",
        font=FONTS,
        font_mono=FONTS,
    ).set(  # the theme's own blues and greys are too pale to read: below 4.5 to 1
        background_fill_primary="*neutral_50",  # Soft's own value, which set() would reset to white
        block_label_text_color="*primary_700",
        block_title_text_color="*primary_700",
        body_text_color_subdued="*neutral_500",
        input_border_color="*neutral_400",  # Soft's edges of fields and boxes cannot be seen
        input_border_width="1px",
        checkbox_border_color="*neutral_400",
        checkbox_border_color_dark="*neutral_400",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        checkbox_label_background_fill_selected="*primary_600",
        link_text_color="*primary_700",
    ),
    "css": """
        .gradio-container { max-width: 1120px !important; margin: 0 auto !important; }
        .gradio-container, .gradio-container main { width: 100% !important; }
        .gradio-container { --blue: #2f6db3; --orange: #b3510f; }  /* of lines and small text */
        .dark .gradio-container, .gradio-container.dark { --blue: #6ea6e8; --orange: #f0a060; }
        .html-container { padding-inline: 0 !important; }  /* in line with everything else */
        .cm-content span { color: var(--body-text-color) !important; }  /* gradio's are pale */
        .controls { align-items: end; }
        .choices .wrap { max-height: 620px; overflow-y: auto; flex-wrap: nowrap;
                         flex-direction: column; }
        .component-wrapper :is(.timestamps, .timestamps time, .controls button) {
            color: var(--body-text-color-subdued) !important; }
        .metrics { align-self: center; min-width: min(420px, 100%) !important; flex: 1; }
        .metrics td:not(:first-child) { white-space: nowrap; }
        .metrics :is(th, td) { word-break: normal !important; }
        @media (max-width: 480px) {  /* a phone: fit all pages, pictures and columns */
            .gradio-container > .app { padding-inline: 12px !important; }
            .gradio-container nav { padding: 0 !important; gap: 2px !important; }
            .gradio-container nav a { font-size: 14px; }
            .metrics :is(th, td) { padding: 6px 4px !important; font-size: 13px; }
        }
        .metrics table, .metrics thead, .metrics tbody, .metrics tr { border: none !important; }
        .metrics th, .metrics td {
            border-style: none none solid !important; border-color: #9aa3ad55 !important; }
        .spectrogram { margin: 0; font-size: 11px; color: var(--body-text-color-subdued); }
        .spectrogram .picture { position: relative; }
        .spectrogram img { width: 100%; height: 180px; border-radius: 4px; }
        .spectrogram span { padding: 0 3px; }
        .spectrogram .picture span { position: absolute; left: 0; transform: translateY(50%);
                                     color: white; text-shadow: 0 0 3px black; }
        .spectrogram figcaption { display: flex; justify-content: space-between; }
        .notice { padding: 14px 18px; border-left: 4px solid #d9772b; background: #d9772b1a;
                  border-radius: 4px; }
        .notice .notice { padding: 0; border: none; background: none; }
    """,
}
WAVE = gr.WaveformOptions(waveform_color="#b9cfe6", waveform_progress_color="#2f6db3")
PLAIN = {"buttons": [], "show_label": False}
QUIET = {"show_progress": "hidden", "api_visibility": "private"}  # of an event


def notice(error: PipelineError | None) -> dict:
    """Show what is missing, or hide the notice."""
    return gr.update(value=str(error or ""), visible=error is not None)


def notice_box() -> gr.Markdown:
    return gr.Markdown(visible=False, elem_classes="notice")
