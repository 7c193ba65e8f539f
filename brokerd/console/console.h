/*
 * Owns:            the page: HTML, CSS, scripts and icons, embedded in the program, and how they are served.
 * May use:         http, base.
 * Never knows:     what the page does with the REST interface, the event stream and the WebSocket.
 * Start reading at FILES in files.c, then serve in console.c.
 */
#ifndef CONSOLE_H
#define CONSOLE_H

#include "http.h"

struct console;
struct console *console_new(struct http *http); /* "/" and "/ui/…"; NULL: no memory */
void console_free(struct console *c);

#endif
