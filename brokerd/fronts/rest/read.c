#include "rest_internal.h"

bool read_register(struct rest *r)
{
    return true;
}
