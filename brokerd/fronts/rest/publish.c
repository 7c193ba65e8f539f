#include "rest_internal.h"

bool publish_register(struct rest *r)
{
    return true;
}
