/* Does a checkpoint's config.json say the same as the module's, where shapes of tensors do not tell? */
#ifndef TBC_RT_SAME_CONFIG_H
#define TBC_RT_SAME_CONFIG_H

#include <stdbool.h>

/* model: the directory of the weights, or their file, with or without a config.json in it or beside it.
 * Compares rope_theta and rms_norm_eps, where both have them. False: an error was printed. */
bool same_config(const char *model, const char *module_config);

#endif
