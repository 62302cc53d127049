"""Hook of the site: links out of docs/ become the names of what is there, pictures come along, flags stay whole."""

import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
WORD = re.compile(r"<code>([\w./=-]{1,24})</code>")  # flags and keys, which a browser would break in two
LINK = re.compile(r"(!?)\[([^\]]*)\]\(\.\./([^)#\s]+)[^)]*\)")


def on_files(files: Any, *, config: Any) -> Any:
    for page in list(files.documentation_pages()):
        if "/" not in page.src_uri:
            for picture, _, target in LINK.findall(page.content_string):
                if picture and files.get_file_from_path(name := f"images/{Path(target).name}") is None:
                    files.append(File.generated(config, name, abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **others: Any) -> str:
    def named(match: re.Match[str]) -> str:
        picture, text, target = match.groups()
        if not (ROOT / target).exists():
            raise PluginError(f"{page.file.src_uri} links to {target}, which is not there")
        if picture:
            return f"![{text}](images/{Path(target).name})"
        return text if target in text else f"{text} (`{target}`)"

    return markdown if "/" in page.file.src_uri else LINK.sub(named, markdown)


def on_page_content(html: str, **others: Any) -> str:
    return WORD.sub(r'<code class="word">\1</code>', html)
