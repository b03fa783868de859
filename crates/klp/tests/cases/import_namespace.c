// expect: changed f
// expect: outside g
// An imported namespace is no change of a table; the livepatch imports it too.
int g(int);

static const char license[] __attribute__((section(".modinfo"), used)) = "license=GPL";
#ifdef PATCHED
static const char space[] __attribute__((section(".modinfo"), used)) = "import_ns=DMA_BUF";
#endif

int f(int x)
{
#ifdef PATCHED
	return g(x);
#else
	return x;
#endif
}
