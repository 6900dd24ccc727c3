// What belongs to the page as a whole. Gradio takes the document's language from the browser; it is
// the page's own.
document.documentElement.lang = props.lang;
