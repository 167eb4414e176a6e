/* How many of its n random cases a suite tries: all, but a quarter where AddressSanitizer watches. It takes
 * ten times as long, and looks for what any of them would show. */
#ifndef TBC_TEST_SEEDS_H
#define TBC_TEST_SEEDS_H

#ifdef __SANITIZE_ADDRESS__
#define SEEDS_OF(n) (((n) + 3) / 4)
#else
#define SEEDS_OF(n) (n)
#endif

#endif
