"""Reports as self-contained pages: parts, sections and charts."""
