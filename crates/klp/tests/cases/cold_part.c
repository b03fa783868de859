// expect: changed f
// expect: added f.cold
// expect: outside print
// A function and its cold part are one.
void print(const char *) __attribute__((cold));

int f(int x)
{
	if (__builtin_expect(x < 0, 0)) {
#ifdef PATCHED
		print("negative again");
#endif
		print("negative");
		return -22;
	}
	return x;
}
