/*
 * The files of page/, taken in as they are by the assembler: they need no build chain, and the program needs no folder to
 * be installed. CMake defines PAGE, the folder, and compiles this again when one of them changes.
 */
#include "console_internal.h"

#define EMBED(symbol, file, type)                                                                                      \
    __asm__(".pushsection .rodata\n"                                                                                   \
            ".global console_" #symbol "\n"                                                                            \
            ".global console_" #symbol "_end\n"                                                                        \
            "console_" #symbol ":\n"                                                                                   \
            ".incbin \"" PAGE "/" file "\"\n"                                                                          \
            "console_" #symbol "_end:\n"                                                                               \
            ".byte 0\n"                                                                                                \
            ".popsection\n");                                                                                          \
    extern const uint8_t console_##symbol[], console_##symbol##_end[];

#define ROW(symbol, file, type) {file, type, console_##symbol, console_##symbol##_end},

#define HTML   "text/html; charset=utf-8"
#define CSS    "text/css; charset=utf-8"
#define SCRIPT "text/javascript; charset=utf-8"
#define SVG    "image/svg+xml"

/* X(symbol, file, type): a file that is missing here is not served; one that is missing there breaks the build. */
#define FILES(X)                                                                                                       \
    X(index_html, "index.html", HTML)                                                                                  \
    X(app_css, "app.css", CSS)                                                                                         \
    X(favicon_svg, "favicon.svg", SVG)                                                                                 \
    X(api_js, "api.js", SCRIPT)                                                                                        \
    X(app_js, "app.js", SCRIPT)                                                                                        \
    X(dead_js, "dead.js", SCRIPT)                                                                                      \
    X(dialog_js, "dialog.js", SCRIPT)                                                                                  \
    X(dom_js, "dom.js", SCRIPT)                                                                                        \
    X(format_js, "format.js", SCRIPT)                                                                                  \
    X(groups_js, "groups.js", SCRIPT)                                                                                  \
    X(message_js, "message.js", SCRIPT)                                                                                \
    X(messages_js, "messages.js", SCRIPT)                                                                              \
    X(overview_js, "overview.js", SCRIPT)                                                                              \
    X(publish_js, "publish.js", SCRIPT)                                                                                \
    X(queue_js, "queue.js", SCRIPT)                                                                                    \
    X(settings_js, "settings.js", SCRIPT)                                                                              \
    X(sparkline_js, "sparkline.js", SCRIPT)                                                                            \
    X(stats_js, "stats.js", SCRIPT)                                                                                    \
    X(tail_js, "tail.js", SCRIPT)                                                                                      \
    X(theme_js, "theme.js", SCRIPT)                                                                                    \
    X(tile_js, "tile.js", SCRIPT)

FILES(EMBED)

const struct console_file CONSOLE_FILES[] = {FILES(ROW)};
const size_t CONSOLE_FILE_COUNT = sizeof(CONSOLE_FILES) / sizeof(CONSOLE_FILES[0]);
