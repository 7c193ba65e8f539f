/* No administrative routes yet. */
#include "rest_internal.h"

bool admin_register(struct rest *r)
{
    return true;
}

void admin_free(struct rest *r) {}
