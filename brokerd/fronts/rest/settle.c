#include "rest_internal.h"

bool settle_register(struct rest *r)
{
    return true;
}
