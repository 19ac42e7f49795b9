"""Reads a page as a browser would, and names everything a page may be made of."""

import html.parser
import re

HOSTILE = "</title><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}\u202e\x1b]52;\x07\r\n$\\frac{'\"&amp;\udc80"

# Everything a page may be made of.
ELEMENTS = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "header",
        "nav",
        "a",
        "details",
        "summary",
        "section",
        "h1",
        "h2",
        "h3",
        "p",
        "br",
        "b",
        "span",
    ),
    *(
        "dl",
        "div",
        "dt",
        "dd",
        "small",
        "ul",
        "li",
        "bdi",
        "code",
        "pre",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
    ),
    *("figure", "figcaption", "footer", "svg", "g", "rect", "path", "text", "circle"),
}
ATTRIBUTES = {
    *(
        "lang",
        "charset",
        "http-equiv",
        "content",
        "name",
        "class",
        "role",
        "aria-label",
        "aria-hidden",
        "viewbox",
    ),
    *(
        "preserveaspectratio",
        "x",
        "y",
        "width",
        "height",
        "d",
        "text-anchor",
        "transform",
        "cx",
        "cy",
        "r",
    ),
    "stroke-dasharray",
    *("id", "href", "data-name"),
}


class Reader(html.parser.HTMLParser):
    """Reads a page as a browser would: elements, attributes and words."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.elements, self.attributes, self.words, self.open = [], [], [], []
        self.feed(page.decode("utf-8"))

    def handle_starttag(self, tag, attrs):
        """Take an element that is closed later."""
        self.elements.append(tag)
        self.attributes += attrs
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        """Take an element without content."""
        self.elements.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        """Close the innermost element, and no other."""
        assert self.open.pop() == tag

    def handle_data(self, data):
        """Take words, style sheets left out."""
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        """The words of the page, in one line."""
        return re.sub(r"\s+", " ", " ".join(self.words))
