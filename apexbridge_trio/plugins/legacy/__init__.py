"""VCPToolBox folders, as they are: ``plugin-manifest.json`` in the words of ours.

============================================  =============================================
``pluginType``                                here
============================================  =============================================
synchronous                                   direct: one process for each call
asynchronous                                  hybrid: the result comes by callback
static                                        static: what it prints is the text
service, hybridservice, messagePreprocessor   not supported: they are modules of a Node server
============================================  =============================================
"""

from apexbridge_trio.plugins.legacy.manifest import FILE, LegacyManifest, read_legacy
from apexbridge_trio.plugins.legacy.program import LegacyProgram

__all__ = ["FILE", "LegacyManifest", "LegacyProgram", "read_legacy"]
