// expect: changed f
// expect: omitted data-changed __compound_literal.0
// What an initializer holds without a name has changed: that is for a person to argue.
int first(void), second(void);

struct inner { int (*call)(void); };
struct outer { int kind; const struct inner *inner; };

const struct outer one = {
	.kind = 1,
#ifdef PATCHED
	.inner = &(const struct inner){ .call = second },
#else
	.inner = &(const struct inner){ .call = first },
#endif
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
	return a->inner->call();
}
