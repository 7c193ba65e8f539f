#include "rest_internal.h"

bool transactions_register(struct rest *r)
{
    return true;
}
