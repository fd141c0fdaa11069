/* Snapshots, and the walk that writes one down. Included by _graph.c. */

typedef struct {
    PyObject *obj;   /* not owned */
    uint32_t type;   /* index of its Info */
    uint32_t count;  /* of its words */
} Record;

typedef struct {
    PyObject *obj;   /* not owned */
    PyTypeObject *type;
    PyObject *token;
} Leaf;

/* What a snapshot has another than its base, or more. */
typedef struct {
    Record record;
    uintptr_t *words;
    uint32_t index;      /* in the base, of the object that it replaces; UINT32_MAX if it is more */
    uint32_t parent;     /* of one that is more */
    char is_gone;
} Part;

typedef struct {
    uint32_t index, parent;
} Move;

#define AT_ROOT UINT32_MAX

typedef struct Snapshot {
    PyObject_HEAD
    uintptr_t *words;    /* of the roots, then of each record; NOT_OWNED marks those that hold no reference */
    Record *records;
    Info *infos;         /* of types beyond the bases */
    Leaf *leaves;
    uintptr_t *shared;   /* addresses of objects that two names could share and one could change */
    uint32_t *numbers;   /* by record: its place in the pickle that was written, + 1; NULL if none was */
    size_t nwords, nrecords, ninfos, nleaves, nroots, nshared;
    uint32_t *parents;   /* by record: the one that it was met from, or AT_ROOT */
    uint32_t *cells;     /* index of a record + 1 by its address; made when it is first needed */
    size_t cells_mask;
    size_t *shared_cells;  /* index in `shared` + 1, likewise */
    size_t shared_mask;
    struct Snapshot *base;  /* what it is but for its parts (see _graph_amend.h); its words are of its roots alone then */
    Part *parts;         /* those that replace one, in order; then those that are more */
    Move *moves;         /* objects with another parent than in the base */
    uintptr_t *shared_gone;  /* of what the base has in `shared`; `shared` is of what came since */
    size_t nparts, nchanged, nmoves, nshared_gone;
    char has_shared_dict;  /* something beside its instance refers to the dictionary of one */
    PyObject *leaf;
} Snapshot;

static int stand_alone(Snapshot *s);
static int snapshot_clear(Snapshot *s);
static void forget(Snapshot *s);

static PyTypeObject *snapshot_type;

typedef struct {
    Snapshot *out;
    Types types;
    PyObject **seen;     /* a set of addresses */
    size_t seen_mask, nseen;
    size_t words_room, records_room, leaves_room, shared_room, limit;
    uint32_t current;    /* whose words are written down */
    PyObject *live, *atoms;
    int given_up;        /* opaque or too large; with no exception set */
} Walk;

static int add_word(Walk *w, uintptr_t word)
{
    Snapshot *s = w->out;
    if (s->nwords == w->words_room) {
        size_t room = w->words_room ? 2 * w->words_room : 64;
        uintptr_t *words = PyMem_RawRealloc(s->words, room * sizeof *words);
        if (words == NULL) {
            PyErr_NoMemory();
            return 1;
        }
        s->words = words;
        w->words_room = room;
    }
    if (s->nwords >= w->limit) {
        w->given_up = 1;
        return 1;
    }
    s->words[s->nwords++] = word;
    return 0;
}

static int record_word(uintptr_t word, void *arg)
{
    return add_word(arg, word | NOT_OWNED);
}

/* Room for about what `old` holds, so that nothing has to grow; where there is none, it will have to. */
static void make_room(Walk *w, const Snapshot *old)
{
    size_t nwords = Py_MIN(old->nwords + 256, w->limit), nrecords = old->nrecords + 64, size = 64;
    while (2 * (nrecords + old->nleaves) > size - 1)
        size *= 2;
    if (nwords > 0 && (w->out->words = PyMem_RawMalloc(nwords * sizeof *w->out->words)) != NULL)
        w->words_room = nwords;
    w->out->records = PyMem_RawMalloc(nrecords * sizeof *w->out->records);
    w->out->parents = PyMem_RawMalloc(nrecords * sizeof *w->out->parents);
    if (w->out->records != NULL && w->out->parents != NULL)
        w->records_room = nrecords;
    if ((w->seen = PyMem_RawCalloc(size, sizeof *w->seen)) != NULL)
        w->seen_mask = size - 1;
}

static int grow_seen(Walk *w)
{
    size_t size = w->seen != NULL ? 2 * (w->seen_mask + 1) : 64;
    PyObject **seen = PyMem_RawCalloc(size, sizeof *seen);
    if (seen == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; w->seen != NULL && i <= w->seen_mask; i++)
        if (w->seen[i] != NULL) {
            size_t at = hash_of(w->seen[i]) & (size - 1);
            while (seen[at] != NULL)
                at = (at + 1) & (size - 1);
            seen[at] = w->seen[i];
        }
    PyMem_RawFree(w->seen);
    w->seen = seen;
    w->seen_mask = size - 1;
    return 0;
}

/* 1 if `o` is new, 0 if it was seen, -1 with an exception. */
static int see(Walk *w, PyObject *o)
{
    if (2 * (w->nseen + 1) > w->seen_mask && grow_seen(w) < 0)
        return -1;
    size_t at = hash_of(o) & w->seen_mask;
    while (w->seen[at] != NULL) {
        if (w->seen[at] == o)
            return 0;
        at = (at + 1) & w->seen_mask;
    }
    w->seen[at] = o;
    w->nseen++;
    return 1;
}

static int add_record(Walk *w, PyObject *o, size_t type)
{
    Snapshot *s = w->out;
    int is_new = see(w, o);
    if (is_new <= 0)
        return is_new < 0;
    if (s->nrecords == w->records_room) {
        size_t room = w->records_room ? 2 * w->records_room : 16;
        Record *records = PyMem_RawRealloc(s->records, room * sizeof *records);
        if (records == NULL) {
            PyErr_NoMemory();
            return 1;
        }
        s->records = records;
        uint32_t *parents = PyMem_RawRealloc(s->parents, room * sizeof *parents);
        if (parents == NULL) {
            PyErr_NoMemory();
            return 1;
        }
        s->parents = parents;
        w->records_room = room;
    }
    s->parents[s->nrecords] = w->current;
    s->records[s->nrecords++] = (Record){o, (uint32_t)type, 0};
    return 0;
}

static int add_leaf(Walk *w, PyObject *o)
{
    Snapshot *s = w->out;
    if (s->leaf == NULL || o == w->live) {
        w->given_up = 1;
        return 1;
    }
    if (add_word(w, (uintptr_t)o | NOT_OWNED))
        return 1;
    int is_new = see(w, o);
    if (is_new <= 0)
        return is_new < 0;
    if (s->nleaves == w->leaves_room) {
        size_t room = w->leaves_room ? 2 * w->leaves_room : 4;
        Leaf *leaves = PyMem_RawRealloc(s->leaves, room * sizeof *leaves);
        if (leaves == NULL) {
            PyErr_NoMemory();
            return 1;
        }
        s->leaves = leaves;
        w->leaves_room = room;
    }
    Py_INCREF(Py_TYPE(o));
    s->leaves[s->nleaves++] = (Leaf){o, Py_TYPE(o), NULL};
    return 0;
}

/* Index of what is known of the type of `o`; -1 with an exception. */
static inline Py_ssize_t type_index(Walk *w, PyObject *o)
{
    size_t at = find_cell(w->types.cells, w->types.mask, w->types.infos, Py_TYPE(o));
    if (w->types.cells[at] != 0)
        return (Py_ssize_t)w->types.cells[at] - 1;
    return learn_type(&w->types, Py_TYPE(o), w->atoms);
}

/* The dictionary of the module that is imported under `name`; NULL if there is none. */
static PyObject *imported(PyObject *name, PyObject **module)
{
    *module = NULL;
    if (name == NULL || !PyUnicode_CheckExact(name))
        return NULL;
    PyObject *found = PyImport_GetModule(name);
    if (found == NULL) {
        PyErr_Clear();
        return NULL;
    }
    *module = found;  /* sys.modules keeps it */
    Py_DECREF(found);
    return PyModule_Check(found) ? PyModule_GetDict(found) : NULL;
}

static PyObject *item(PyObject *dict, PyObject *name)
{
    PyObject *found = PyDict_GetItemWithError(dict, name);
    if (found == NULL)
        PyErr_Clear();
    return found;
}

static PyObject *str_dunder_name, *str_dunder_spec, *str_dunder_file;

/* Whether nothing was imported for a module that is in sys.modules. */
static int is_made_by_hand(PyObject *module, PyObject *content)
{
    PyObject *name = item(content, str_dunder_name), *spec = item(content, str_dunder_spec);
    if (Py_TYPE(module) != &PyModule_Type || (spec != NULL && spec != Py_None) || item(content, str_dunder_file) != NULL)
        return 0;
    return PyUnicode_FindChar(name, '.', 0, PyUnicode_GET_LENGTH(name), 1) < 0
           && PyUnicode_CompareWithASCIIString(name, "__main__") != 0
           && PyUnicode_CompareWithASCIIString(name, "__mp_main__") != 0;
}

/* How one function is treated: a library's own by identity, the notebook's by its parts. */
static int role_of_function(Walk *w, PyObject *o)
{
    PyObject *globals = PyFunction_GET_GLOBALS(o), *name = ((PyFunctionObject *)o)->func_name, *module;
    if (globals == w->live)
        return CONTAINER;
    if (!PyDict_CheckExact(globals) || imported(item(globals, str_dunder_name), &module) != globals)
        return OPAQUE;
    return PyUnicode_CheckExact(name) && item(globals, name) == o ? ATOM : CONTAINER;
}

/* ATOM, CONTAINER or OPAQUE, for types of which not every object is treated alike; -1 with an exception. */
static int role_of_object(Walk *w, PyObject *o, const Info *info)
{
    PyObject *part, *module;
    Py_ssize_t index;
    switch (info->role) {
    case FUNCTION:
        return role_of_function(w, o);
    case BUILTIN:
        part = ((PyCFunctionObject *)o)->m_self;
        return part == NULL || PyModule_Check(part) || PyType_Check(part) ? ATOM : CONTAINER;
    case MODULE:
        part = PyModule_GetDict(o);
        return imported(item(part, str_dunder_name), &module) == part && module == o && !is_made_by_hand(o, part) ? ATOM : OPAQUE;
    case MOMENT:
        part = PyDateTime_CheckExact(o) ? PyDateTime_DATE_GET_TZINFO(o) : PyDateTime_TIME_GET_TZINFO(o);
        index = type_index(w, part);
        if (index < 0)
            return -1;
        return info_at(w->types.infos, index)->role == ATOM ? ATOM : OPAQUE;
    case WEAKREF:  /* what it refers to must not be owned, for then it would not die */
        part = weakref_target(o);
        index = type_index(w, part);
        if (index < 0)
            return -1;
        info = info_at(w->types.infos, index);
        return part == Py_None || (info->role == CONTAINER && !info->owned) || info->role == OPAQUE ? CONTAINER : OPAQUE;
    default:
        return info->role;
    }
}

static int record_child(PyObject *o, void *arg)
{
    Walk *w = arg;
    if (o == NULL)
        return add_word(w, NOT_OWNED);
    Py_ssize_t index = type_index(w, o);
    if (index < 0)
        return 1;
    const Info *info = info_at(w->types.infos, index);
    int owned = info->owned, role = info->role;
    if (role > OPAQUE && (role = role_of_object(w, o, info)) < 0)
        return 1;
    if (role == ATOM) {
        if (add_word(w, (uintptr_t)o))
            return 1;
        Py_INCREF(o);
        return 0;
    }
    if (role == OPAQUE || o == w->live)
        return add_leaf(w, o);
    if (add_word(w, (uintptr_t)o | (owned ? 0 : NOT_OWNED)))
        return 1;
    if (owned)
        Py_INCREF(o);
    return add_record(w, o, index);
}

static int add_shared(Walk *w, void *address)
{
    Snapshot *s = w->out;
    if (s->nshared == w->shared_room) {
        size_t room = w->shared_room ? 2 * w->shared_room : 16;
        uintptr_t *shared = PyMem_RawRealloc(s->shared, room * sizeof *shared);
        if (shared == NULL) {
            PyErr_NoMemory();
            return 1;
        }
        s->shared = shared;
        w->shared_room = room;
    }
    s->shared[s->nshared++] = (uintptr_t)address;
    return 0;
}

/* Whether two names that hold `o` could see a change of it through each other. */
static int can_be_shared(const Walk *w, PyObject *o)
{
    PyTypeObject *type = Py_TYPE(o);
    if (PyTuple_Check(o) || PyFrozenSet_Check(o) || type == &PySlice_Type || type == &Py_GenericAliasType)
        return 0;
    return type != &PyFunction_Type || PyFunction_GET_GLOBALS(o) == w->live;
}

/* Its own address, and the one of its dictionary, which another name may hold. */
static int note_shared(Walk *w, PyObject *o, const Info *info)
{
    if (can_be_shared(w, o) && add_shared(w, o))
        return 1;
    PyObject **place = info->has_dict ? _PyObject_GetDictPtr(o) : NULL;
    if (place == NULL || is_as_none(*place))
        return 0;
    w->out->has_shared_dict |= Py_REFCNT(*place) > 1;
    return add_shared(w, *place);
}

/* 0 when everything was written down; 1 when given up, or with an exception. */
static int walk(Walk *w, PyObject **roots, Py_ssize_t nroots)
{
    Snapshot *s = w->out;
    w->types.mask = 4 * BASES_ROOM - 1;
    w->types.cells = PyMem_RawMalloc(sizeof base_cells);
    if (w->types.cells == NULL) {
        PyErr_NoMemory();
        return 1;
    }
    memcpy(w->types.cells, base_cells, sizeof base_cells);
    s->nroots = nroots;
    w->current = AT_ROOT;
    for (Py_ssize_t i = 0; i < nroots; i++)
        if (record_child(roots[i], w))
            return 1;
    for (size_t i = 0; i < s->nrecords; i++) {
        Info info = *info_at(w->types.infos, s->records[i].type);
        size_t start = s->nwords;
        w->current = (uint32_t)i;
        if (words(s->records[i].obj, &info, record_child, record_word, w)) {
            w->given_up = !PyErr_Occurred();
            return 1;
        }
        s->records[i].count = (uint32_t)(s->nwords - start);
        if (note_shared(w, s->records[i].obj, &info))
            return 1;
    }
    return 0;
}

static void *fitted(void *memory, size_t nbytes)
{
    void *moved = nbytes ? PyMem_RawRealloc(memory, nbytes) : NULL;
    return moved != NULL ? moved : memory;
}

/* Strong references to the leaves' objects; -1 with an exception. */
static PyObject *hold_leaves(Snapshot *s)
{
    PyObject *held = PyTuple_New((Py_ssize_t)s->nleaves);
    for (size_t i = 0; held != NULL && i < s->nleaves; i++) {
        Py_INCREF(s->leaves[i].obj);
        PyTuple_SET_ITEM(held, (Py_ssize_t)i, s->leaves[i].obj);
    }
    return held;
}

/* 1 if every leaf has a token now, 0 if one has none, -1 with an exception. */
static int take_tokens(Snapshot *s, PyObject *held)
{
    for (size_t i = 0; i < s->nleaves; i++) {
        PyObject *token = PyObject_CallOneArg(s->leaf, PyTuple_GET_ITEM(held, (Py_ssize_t)i));
        if (token == NULL)
            return -1;
        s->leaves[i].token = token;
        if (token == Py_None)
            return 0;
    }
    return 1;
}
