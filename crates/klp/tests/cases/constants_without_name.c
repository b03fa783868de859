// expect: changed f
// expect: outside number
// What initializers hold without a name is known by who refers to it: nothing of it has changed here.
int g(int), first(void), second(void);
int number;

struct inner { int (*call)(void); };
struct outer { int kind; const struct inner *inner; const struct outer *const *more; };

const struct outer one = {
	.kind = 1,
	.inner = &(const struct inner){ .call = first },
	.more = (const struct outer *const[]){
		&(const struct outer){ .kind = 3, .inner = &(const struct inner){ .call = first } },
		&(const struct outer){ .kind = 4, .inner = &(const struct inner){ .call = second } },
	},
};
const struct outer two = {
	.kind = 2,
	.inner = &(const struct inner){ .call = first },
};

int f(const struct outer *a)
{
#ifdef PATCHED
	if (!a)
		return -1;
#endif
	number += a->kind;
	return a->inner->call();
}
