#include <livepatch/author.h>

/* A number for this use of shadow variables, for good. */
#define READERS 74107

/* How often an object was read: a field that its structure does not have. */
static int count_reader(void *object)
{
	atomic_t *readers = klp_shadow_get_or_alloc(object, READERS, sizeof(*readers), GFP_KERNEL, NULL, NULL);

	return readers ? atomic_inc_return(readers) : 0;
}

/* When no task counts any more, nothing of it may be left. */
static void forget_readers(struct klp_object *object)
{
	klp_shadow_free_all(READERS, NULL);
}
LIVEPATCH_POST_UNPATCH(forget_readers);

