/*
 * Owns:            the definitions of a broker: queues, groups, bindings as one JSON document.
 * May use:         cli.h, settings.
 * Never knows:     messages, positions.
 * Start reading at definitions_export; import.c has the way back.
 */
#ifndef CLI_DEFINITIONS_H
#define CLI_DEFINITIONS_H

#include "settings.h"

#define DEFINITIONS_FORMAT  "brokerd definitions"
#define DEFINITIONS_VERSION 1

struct import_options {
    bool alter, dry_run, quiet;
};

enum cli_exit definitions_import(struct cli *cli, const struct import_options *o, json_t *document);

#endif
